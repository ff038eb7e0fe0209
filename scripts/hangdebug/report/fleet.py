"""Many processes at once: what most suffer from, who differs, who fell first, the peer and the version they share.

Of each process a Sighting stays, some hundred bytes, and one diagnosis of each kind: ten thousand bundles fit anywhere.

    fleet = Fleet()
    fleet.add(sighting(name, evidence, answer, about), answer)
    fleet.merge(another)                             two halves that were read side by side
    as_text(fleet)  as_dict(fleet)  picture(fleet)  write(fleet, Path("report"))
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from hangdebug.answer.model import Diagnosis
from hangdebug.answer.states import ENTRIES
from hangdebug.errors import printable
from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Evidence
from hangdebug.evidence.vocabulary import STATES
from hangdebug.report import svg
from hangdebug.report.recording import write_files
from hangdebug.report.text import Group, group_rows, inert, key_of, plain

SCHEMA_VERSION = 1
Place = tuple["str | int | None", ...]
Key = tuple[object, ...]
PEER = re.compile(r"-> ((?:\d{1,3}\.){3}\d{1,3}|\[[0-9a-f:.]+\]):(\d+)$")  # as evidence/kernel.py puts a socket
SHOWN_GROUPS, SHOWN_HOSTS, SHOWN_UNREAD = 8, 6, 5
PEER_KEYS = ("address", "count", "known")
AROUND = (-2, 2)  # the lines around the frame by which two versions of the code are told apart


@dataclass(frozen=True)
class Sighting:
    """What stays of one process. Times are seconds since 1970, 0 where they are not known.

    `seen` is when it was captured, `since` since when a request has had no answer by then. `peer` is the address that
    the thread at fault waits for, with its `host` in front where the address is that host's own. `version` is what was
    said of it when it was captured, `lines` a mark of the code around the frame.
    """

    name: str
    host: str
    key: Key
    seen: float = 0.0
    since: float = 0.0
    peer: str = ""
    version: str = ""
    lines: str = ""

    @property
    def state(self) -> str:
        return str(self.key[0])

    @property
    def hangs(self) -> bool:
        entry = ENTRIES[self.state]  # type: ignore[index]
        return entry.decided and not entry.well

    @property
    def began(self) -> float:
        """Since when it is known to hang."""
        return self.since or self.seen


@dataclass(eq=False)
class Fleet:
    """Everything that was read: `unread` are the names of what could not be, with the reason."""

    rows: list[Sighting] = field(default_factory=list)
    best: dict[Key, Diagnosis] = field(default_factory=dict)
    unread: list[tuple[str, str]] = field(default_factory=list)
    bundles: int = 0

    def add(self, row: Sighting, answer: Diagnosis) -> None:
        self.rows.append(row)
        self.keep(row.key, answer)

    def keep(self, key: Key, answer: Diagnosis) -> None:
        if key not in self.best or answer.confidence > self.best[key].confidence:
            self.best[key] = answer

    def merge(self, other: Fleet) -> None:
        self.rows += other.rows
        self.unread += other.unread
        self.bundles += other.bundles
        for key, answer in other.best.items():
            self.keep(key, answer)

    @property
    def groups(self) -> list[tuple[Diagnosis, list[Sighting]]]:
        """Those that say the same, the largest group first."""
        found: dict[Key, list[Sighting]] = {}
        for row in self.rows:
            found.setdefault(row.key, []).append(row)
        return [(self.best[key], found[key]) for key in sorted(found, key=lambda key: -len(found[key]))]

    @property
    def fell(self) -> list[Sighting]:
        """Those that hang, in the order in which they are known to."""
        return sorted((row for row in self.rows if row.hangs and row.began), key=lambda row: (row.began, row.name))


# -- one process ---------------------------------------------------------------------------------------


def sighting(name: str, evidence: Evidence, answer: Diagnosis, about: Mapping[str, str]) -> Sighting:
    """What stays of it. `about` is what its carrier said: `host`, `version`."""
    host = about.get("host") or host_in(name)
    seen = moment(evidence.taken)
    waiting = unanswered(evidence) if seen else 0.0
    return Sighting(
        name,
        host,
        key_of(answer),
        seen,
        seen - waiting if waiting else 0.0,
        peer_of(answer, host),
        about.get("version", ""),
        lines_mark(evidence, answer),
    )


def unanswered(evidence: Evidence) -> float:
    """For how many seconds the oldest request has had no answer that came after the last answer to anybody; 0 for none.

    A client that waits for longer is no sign: the process was alive meanwhile, as with a long poll.
    """
    clients = evidence.clients
    if clients is None or not clients.waits:
        return 0.0
    return max((one for one in clients.waits if clients.answered is None or one <= clients.answered), default=0.0)


def host_in(name: str) -> str:
    """A bundle is called after its host, or lies in a folder that is: pod-1.tar.gz, web1/evidence-4284-TIME.zip."""
    folder, _, file = name.partition(" (")[0].replace("\\", "/").rstrip("/").rpartition("/")
    stem = re.sub(r"\.(?:tar\.gz|tgz|tar|zip|txt|json)$", "", file)
    return folder.rpartition("/")[2] or stem if re.match(r"evidence(?:-\d|$)", stem) else stem


def moment(text: str) -> float:
    """Seconds since 1970 of an ISO time, 0 for anything else."""
    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def clock(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def peer_of(answer: Diagnosis, host: str) -> str:
    """The other end of the socket in which the thread at fault waits: "10.2.3.4:5432", "web1: 127.0.0.1:5432"."""
    found = PEER.search((answer.kernel_wait and answer.kernel_wait.detail) or "")
    if not found:
        return ""
    own = ipaddress.ip_address(found[1].strip("[]")).is_loopback  # of every host another one
    return f"{host}: {found[1]}:{found[2]}" if own else f"{found[1]}:{found[2]}"


def lines_mark(evidence: Evidence, answer: Diagnosis) -> str:
    """Eight letters that are the same where the lines around the frame are; "" where these are not in the evidence."""
    frame = answer.blocking_frame
    lines = evidence.sources.get(frame.file, {}) if frame else {}
    if not frame or not frame.line or frame.line not in lines:
        return ""
    near = range(frame.line + AROUND[0], frame.line + AROUND[1])
    return hashlib.sha256("\n".join(lines.get(number, "") for number in near).encode()).hexdigest()[:8]


# -- what they have in common --------------------------------------------------------------------------


def shared_peer(rows: Iterable[Sighting]) -> tuple[str, int, int]:
    """The address for which most of them wait, how many do, and how many wait for any; "" where none does."""
    peers = Counter(row.peer for row in rows if row.peer)
    (peer, count), *_ = peers.most_common(1) or [("", 0)]
    return peer, count, sum(peers.values())


def versions(rows: Iterable[Sighting]) -> dict[str, int]:
    """How many run each version, the most frequent first. What was not said is told by the lines around the frame."""
    named = Counter(row.version or (row.lines and f"lines {row.lines}") for row in rows)
    return {name: count for name, count in named.most_common() if name}


def hangs_by_version(fleet: Fleet) -> dict[str, tuple[int, int]]:
    """Of each version that was named, how many hang and how many there are; the one that hangs most often first."""
    named = Counter(row.version for row in fleet.rows if row.version)
    bad = Counter(row.version for row in fleet.rows if row.version and row.hangs)
    return {name: (bad[name], named[name]) for name in sorted(named, key=lambda one: (-bad[one] / named[one], one))}


def over_all(fleet: Fleet) -> list[tuple[str, str]]:
    """What is true of all that hang, by a title each: the first, the peer, the versions."""
    first = fleet.fell[0] if fleet.fell else None
    found = [("first to fall" if first.since else "first seen to hang", when(first))] if first else []
    hung = [row for row in fleet.rows if row.hangs]
    peer, count, _ = shared_peer(hung)
    if count > 1:
        found.append(("common peer", f"{peer}, for which {count:,} of {len(hung):,} that hang wait"))
    rates = [f"{bad:,} of {of:,} {name}" for name, (bad, of) in list(hangs_by_version(fleet).items())[:SHOWN_HOSTS]]
    return [*found, ("hang, by version", "; ".join(rates))] if rates else found


def sentences(rows: list[Sighting]) -> list[str]:
    """Where one kind is, in words: its hosts, its peer, its versions, since when."""
    hosts = list(dict.fromkeys(row.host for row in rows))
    more = f" and {len(hosts) - SHOWN_HOSTS:,} more" if len(hosts) > SHOWN_HOSTS else ""
    found = [f"{counted(len(hosts), 'host')}: {', '.join(hosts[:SHOWN_HOSTS])}{more}"]
    peer, count, of = shared_peer(rows)
    if count > 1:
        found.append(f"wait for {peer}: {count:,} of the {of:,} whose peer is known")
    elif of > 1:
        found.append(f"wait for {of:,} peers, each for another one")
    by_version = versions(rows)
    if by_version:
        found.append("versions: " + ", ".join(f"{name} in {number:,}" for name, number in list(by_version.items())[:4]))
    first = min((row for row in rows if row.began and row.hangs), key=lambda row: row.began, default=None)
    if first is not None:
        found.append(f"first: {when(first)}")
    return found


def when(row: Sighting) -> str:
    """Who, and since when; a capture alone says when it was looked at, and not when it began."""
    if row.since:
        return f"{row.host}, a request without an answer since {clock(row.since)}"
    return f"{row.host}, captured {clock(row.seen)} (when it began is not known)"


def title(answer: Diagnosis) -> str:
    frame = answer.blocking_frame
    where = f" in {frame.function} ({frame.file}:{frame.line})" if frame else ""
    return f"{answer.state} / {answer.cause}{where}"


def heading(fleet: Fleet) -> str:
    seen = [row.seen for row in fleet.rows if row.seen]
    span = f", captured {clock(min(seen))} to {clock(max(seen))}" if seen else ""
    bad = f"; {counted(len(fleet.unread), 'bundle')} could not be read" if fleet.unread else ""
    return f"{counted(fleet.bundles, 'bundle')}, {counted(len(fleet.rows), 'process', 'es')}{span}{bad}"


def counted(count: int, noun: str, plural: str = "s") -> str:
    return f"{count:,} {noun}{'' if count == 1 else plural}"


def by_state(rows: Iterable[Sighting]) -> dict[str, int]:
    found = Counter(row.state for row in rows)
    return {state: found[state] for state in STATES if found[state]}


# -- for people and for programs -----------------------------------------------------------------------


def as_text(fleet: Fleet) -> str:
    """The whole in a line, then each kind: how many, what, where, and what its members share."""
    lines = [heading(fleet), "   ".join(f"{state} {count:,}" for state, count in by_state(fleet.rows).items()), ""]
    groups = fleet.groups
    for answer, rows in groups[:SHOWN_GROUPS]:
        lines += [f"{len(rows):>6,} x  {title(answer)}   confidence {answer.confidence:.2f}"]
        lines += [f"          {words}" for words in sentences(rows)]
    rest = groups[SHOWN_GROUPS:]
    lines += [f"{sum(len(rows) for _, rows in rest):>6,} x  {len(rest):,} more kinds; --json has all"] if rest else []
    lines += ["", *(f"{name:18}  {words}" for name, words in over_all(fleet))]
    lines += [f"cannot be read      {name}: {why}" for name, why in fleet.unread[:SHOWN_UNREAD]]
    return printable("\n".join(lines)) + "\n"


def as_dict(fleet: Fleet) -> dict[str, Any]:
    """Version 1. `groups` are those of several sources, `diagnosis` in each is the contract of one; times are ISO."""

    def spoken(row: Sighting) -> dict[str, object]:
        times = {name: clock(value) if value else None for name, value in (("seen", row.seen), ("since", row.since))}
        return {"name": row.name, "host": row.host, "state": row.state, **times}

    return {
        "schema_version": SCHEMA_VERSION,
        "bundles": fleet.bundles,
        "processes": len(fleet.rows),
        "states": by_state(fleet.rows),
        "first_to_fall": [spoken(row) for row in fleet.fell[:SHOWN_GROUPS]],
        "peer": dict(zip(PEER_KEYS, shared_peer(row for row in fleet.rows if row.hangs))),
        "versions": {name: {"hang": bad, "of": of} for name, (bad, of) in hangs_by_version(fleet).items()},
        "groups": [
            {
                **group,
                "hosts": sorted({row.host for row in rows}),
                "peer": dict(zip(PEER_KEYS, shared_peer(rows))),
                "versions": versions(rows),
            }
            for group, (_, rows) in zip(
                group_rows(Group(answer, tuple(row.name for row in rows)) for answer, rows in fleet.groups),
                fleet.groups,
            )
        ],
        "unread": [{"name": name, "why": why} for name, why in fleet.unread],
    }


# -- the picture: hosts by time ------------------------------------------------------------------------

SHADES = (
    *(svg.INK, svg.VERMILLION, svg.BLUE, svg.SKY, svg.ORANGE, svg.YELLOW),
    *("#8c6d31", "#7f3b08", svg.PURPLE, "#b0b0b0", svg.GREEN),
)
COLOUR = dict(zip(STATES, SHADES))
COLUMNS, MOST_ROWS = 60, 30
LEFT, RIGHT, TOP, ROW, STRIP = 190, 16, 62, 15, 90


def picture(fleet: Fleet) -> svg.Picture:
    """Above, the share of each state among all processes by the time of their capture; below, a row a host.

    The hosts that fell first stand first, and at most MOST_ROWS of them. A host that was captured several times in a
    column shows the state to act on first.
    """
    timed = [row for row in fleet.rows if row.seen]
    start, end = (min(row.seen for row in timed), max(row.seen for row in timed)) if timed else (0.0, 0.0)
    step = max((end - start) / COLUMNS, 1.0)
    width = (svg.WIDTH - LEFT - RIGHT) / COLUMNS
    cells: dict[tuple[str, int], str] = {}
    columns: list[Counter[str]] = [Counter() for _ in range(COLUMNS)]
    for row in timed:
        column = min(int((row.seen - start) / step), COLUMNS - 1)
        columns[column][row.state] += 1
        kept = cells.get((row.host, column), row.state)
        cells[row.host, column] = min(kept, row.state, key=STATES.index)
    hosts = list(dict.fromkeys(row.host for row in [*fleet.fell, *sorted(timed, key=lambda row: row.seen)]))
    shown = hosts[:MOST_ROWS]
    below = TOP + STRIP + 22
    parts = [svg.text(16, 24, heading(fleet), svg.WIDTH - 32, size=14, bold=True), *legend(fleet)]
    parts += [svg.text(16, TOP + 14, "share of all processes", LEFT - 24, svg.FAINT)]
    parts += [part for number, one in enumerate(columns) for part in bar(one, LEFT + number * width, width)]
    for number, host in enumerate(shown):
        y = below + number * ROW
        parts.append(svg.text(16, y + 11, host, LEFT - 24, font=svg.MONO, size=11))
        parts += [
            svg.box(LEFT + column * width, y + 1, max(width - 1, 1), ROW - 2, COLOUR[state], title=f"{host}: {state}")  # type: ignore[index]
            for column, state in ((column, cells.get((host, column), "")) for column in range(COLUMNS))
            if state
        ]
    foot = below + len(shown) * ROW + 16
    if timed:
        parts += [svg.text(LEFT, foot, clock(start), 200, svg.FAINT)]
        parts += [svg.text(svg.WIDTH - RIGHT, foot, clock(end), 200, svg.FAINT, anchor="end")]
    rest = len(hosts) - len(shown)
    parts += [svg.text(16, foot, f"{rest:,} more hosts", LEFT - 24, svg.FAINT)] if rest > 0 else []
    counts = ", ".join(f"{state} {count:,}" for state, count in by_state(fleet.rows).items())
    caption = (
        "Each column is a span of time; the hosts that fell first stand first." if timed else "No bundle says when."
    )
    alt = f"{heading(fleet)}: {counts}"
    return svg.Picture(svg.card(foot + 14, parts, counts), alt, caption if timed else "No bundle says when.")


def legend(fleet: Fleet) -> list[str]:
    parts, x = [], 16.0
    for state, count in by_state(fleet.rows).items():
        words = f"{state} {count:,}"
        parts += [svg.box(x, 38, 10, 10, COLOUR[state]), svg.text(x + 14, 47, words, 200)]  # type: ignore[index]
        x += 26 + svg.wide(words)
    return parts


def bar(column: Counter[str], x: float, width: float) -> Iterable[str]:
    """One column of the strip: its states from the first to act on, downwards."""
    total, y = sum(column.values()), float(TOP)
    for state in STATES:
        height = STRIP * column[state] / total if total else 0.0
        if height:
            yield svg.box(
                x, y, max(width - 1, 1), height, COLOUR[state], title=f"{state}: {column[state]:,} of {total:,}"
            )
        y += height


# -- the report ----------------------------------------------------------------------------------------


def write(fleet: Fleet, out: Path) -> tuple[Path, Path]:
    """report.html, which needs nothing else, report.md, and the picture beside them. Raises CannotWrite."""
    shown = picture(fleet)
    files = {"fleet.svg": shown.data, "report.md": as_markdown(fleet).encode("utf-8", "replace")}
    files["report.html"] = as_html(fleet, shown).encode("utf-8", "replace")
    write_files(out, files)
    return out / "report.html", out / "report.md"


def as_html(fleet: Fleet, shown: svg.Picture) -> str:
    from hangdebug.report import page  # its house is large, and text alone needs none of it

    rows = [
        (f"{len(rows):,}", inert(title(answer)), f"{answer.confidence:.2f}", "<br>".join(map(inert, sentences(rows))))
        for answer, rows in fleet.groups
    ]
    kinds = page.table(("count", "what", "sure", "where"), rows)
    over = [f'<p class="answer">{inert(f"{name.capitalize()}: {words}.")}</p>' for name, words in over_all(fleet)]
    parts = [f"<h1>{inert(heading(fleet))}</h1>", *over, shown.html(), page.titled("What they suffer from", kinds)]
    parts.append(page.listed("Could not be read", [f"{name}: {why}" for name, why in fleet.unread]))
    return page.document("A fleet", parts)


def as_markdown(fleet: Fleet) -> str:
    lines = [f"## {plain(heading(fleet))}", ""]
    lines += [*(f"- {name}: {plain(words)}" for name, words in over_all(fleet)), ""]
    lines += ["![hosts by time](fleet.svg)", ""]
    for answer, rows in fleet.groups:
        lines += [f"- **{len(rows):,} x** {plain(title(answer))}, confidence {answer.confidence:.2f}"]
        lines += [f"  - {plain(words)}" for words in sentences(rows)]
    lines += ["", *(f"- could not be read: {plain(f'{name}: {why}')}" for name, why in fleet.unread)]
    return printable("\n".join(lines)).rstrip() + "\n"
