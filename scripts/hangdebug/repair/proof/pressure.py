"""Many readers leave at once, again and again, while real curl asks the other routes all the time.

    found = pressure(["http://127.0.0.1:8000/health"], "http://127.0.0.1:8000/stream", pid=4284)
    print(report(found))
    found.passed

`verify` opens few streams and asks between two aborts. This one shows what only a crowd shows: a health check that
is late while twenty streams are torn down at once, and threads that pile up.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, field
from pathlib import Path
from threading import Event
from typing import Any, Callable, Union

from hangdebug import files
from hangdebug.evidence.bundle import json_object
from hangdebug.evidence.light import dataclass
from hangdebug.repair.model import Probe
from hangdebug.repair.proof import curl
from hangdebug.repair.proof.server import threads_of
from hangdebug.repair.proof.verify import (
    BASELINE,
    PAUSE,
    ROUNDS,
    Run,
    Verification,
    checked,
    finished,
    one_round,
    rounds,
    see_whose_they_are,
    table,
)

FIRST, DURING = "after the first batch", "during aborts"
ASKED_EVERY = 0.05  # seconds between the end of a round of probes and the next
SETTLE = 1.0  # seconds after the last abort in which the threads have to be back
MORE = 2  # threads above the baseline that still count as back
NEWER = ("requests", "sent")  # that a check kept by an earlier version does not have
FEW_ROUNDS = 2  # that miss one after the other: then no more streams are opened


@dataclass(frozen=True)
class Pressure:
    """A Verification with the phases BASELINE, FIRST and DURING, and the number of the process's threads.

    `counts` are (seconds since the first probe, threads), `cut` how many streams had been cut off by then.
    `baseline` is counted SETTLE seconds after the first batch of streams, which is not part of the aborts, so that
    pools have grown to their size. `back` is the number of seconds from the last abort until no more than MORE above
    it were left, None where that took longer than SETTLE. All four are empty or None without a pid.
    """

    result: Verification
    baseline: int | None = None
    counts: tuple[tuple[float, int], ...] = ()
    back: float | None = None
    cut: tuple[int, ...] = ()

    @property
    def passed(self) -> bool:
        return self.result.passed and (self.baseline is None or self.back is not None)


Check = Union[Verification, Pressure]


@dataclass
class Watch:
    """A run of probes in a thread of its own, until `over` is set."""

    run: Run
    pid: int | None
    over: Event = field(default_factory=Event)
    missed: int = 0  # rounds in a row
    counts: list[tuple[float, int]] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)

    def go(self) -> None:
        while not self.over.wait(ASKED_EVERY):
            self.missed = 0 if one_round(self.run, DURING) else self.missed + 1
            if self.pid:
                self.counts.append((time.monotonic() - self.run.began, threads_of(self.pid)))
                self.cut.append(self.run.aborts)


def pressure(
    urls: str | Iterable[str],
    stream_url: str,
    *,
    aborts: int = 200,
    concurrency: int = 20,
    deadline: float = 2.0,
    expect: Sequence[int] = (),
    pid: int | None = None,
    allow_remote: bool = False,
    on_phase: Callable[[str], object] = lambda phase: None,
) -> Pressure:
    """Open `concurrency` streams at once, cut them off, and so on until `aborts` were cut, probing all the time.

    Where two rounds of probes in a row miss, no more streams are opened. `pid` is the process whose threads are
    counted (Linux only). Raises BadRequest, MissingTool (no curl), NoProcess.
    """
    urls = checked([urls] if isinstance(urls, str) else urls, stream_url, aborts, concurrency, deadline, allow_remote)
    run = Run(urls, deadline, None, tuple(expect), pid)
    baseline = back = None
    counts: tuple[tuple[float, int], ...] = ()
    gone: tuple[int, ...] = ()
    on_phase(BASELINE)
    if not rounds(run, BASELINE, ROUNDS):
        run.notes["No stream was opened: the server does not even answer without one."] = None
    elif warm(run, stream_url, concurrency, on_phase):
        baseline = threads_of(pid) if pid else None
        on_phase(DURING)
        with watching(run, pid) as watch, files.thread_pool(1, initializer=yield_the_processor) as crowd:
            while run.aborts < aborts and watch.missed < FEW_ROUNDS:
                if not crowd.submit(cut, run, stream_url, min(concurrency, aborts - run.aborts)).result():
                    break
            back = settled(pid, baseline)
        counts, gone = tuple(watch.counts), tuple(watch.cut)
    if run.aborts < aborts:
        run.notes[f"No further stream was opened after {run.aborts} of {aborts} aborts."] = None
    result = finished(run, stream_url, aborts)
    return Pressure(result, baseline, counts, back if result.complete else None, gone)


def warm(run: Run, url: str, count: int, on_phase: Callable[[str], object]) -> bool:
    """One batch that does not count, so that pools and caches have grown. Whether the server survived it."""
    on_phase(FIRST)
    flowed = cut(run, url, count)
    answers = rounds(run, FIRST, 1)
    time.sleep(SETTLE if flowed and answers else 0)
    run.opened = run.streams = run.aborts = 0
    return flowed and answers


def yield_the_processor() -> None:
    """Let the server and the probes come first. In life, readers start their browsers on machines of their own."""
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + 5)  # Linux: of this thread only


def cut(run: Run, url: str, count: int) -> bool:
    """Open `count` streams, and cut them off once each gave a first byte. Whether all of them did."""
    with curl.streams(url, count, run.patience, run.lifetime) as batch:
        run.opened += count
        flowing = [stream for stream in batch if stream.flows]
        run.streams += len(flowing)
        see_whose_they_are(run, url, flowing)
        run.aborts += sum(not stream.ended for stream in flowing)
        silent = next((stream for stream in batch if not stream.flows), None)
        if silent:
            run.notes[curl.silence(silent, url, run.patience)] = None
    return silent is None


@contextmanager
def watching(run: Run, pid: int | None) -> Iterator[Watch]:
    watch = Watch(run, pid)
    with files.thread_pool(1) as aside:
        asked = aside.submit(watch.go)
        try:
            yield watch
        finally:
            watch.over.set()
        asked.result()


def settled(pid: int | None, baseline: int | None) -> float | None:
    """Seconds until the threads were back; the probes go on for SETTLE in any case."""
    began, back = time.monotonic(), None
    while time.monotonic() - began < SETTLE:
        if back is None and pid and baseline is not None and threads_of(pid) <= baseline + MORE:
            back = time.monotonic() - began
        time.sleep(PAUSE / 10)
    return back


def report(found: Pressure) -> str:
    """What `verify` prints, and a line about the threads."""
    head, _, rest = table(found.result).partition("\n\n")
    if found.baseline is None or not found.counts:
        return f"{head}\n\n{rest}"
    most, last = max(count for _, count in found.counts), found.counts[-1][1]
    said = f"still {last}, {SETTLE:g} s after the last abort"
    if found.back is not None:
        said = f"back {found.back:.2f} s after the last abort"
    elif found.result.passed:
        rest = rest.replace("PASSED:", "FAILED: threads were left behind;", 1)
    return f"{head}\n\nThreads: {found.baseline} before, {most} at most, {said}.\n{rest}"


# -- kept as JSON, for a report ---------------------------------------------------------------------------


def keep_check(check: Check, file: Path) -> None:
    """Write it as JSON, to be read by a report: `verification.json`, or a `NAME.json` of its own."""
    from hangdebug.capture import redact

    kind = "pressure" if isinstance(check, Pressure) else "verification"
    text = json.dumps({"kind": kind, "taken": now(), **asdict(check)}, indent=1)
    files.make_folder(file.parent)
    files.write_whole(file, redact.clean_text(text)[0])  # a URL may hold a password, and a bundle is sent on


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")


def read_check(text: str) -> Check | None:
    """What keep_check wrote, None for anything else: a bundle may come from anybody."""
    value = json_object(text)
    kind = value.pop("kind", None)
    try:
        if kind == "pressure":
            counts = tuple((sane(at), int(sane(count))) for at, count in value["counts"])
            cut = tuple(int(sane(one)) for one in value["cut"])
            if len(cut) != len(counts):
                return None
            baseline, back = (None if value[name] is None else sane(value[name]) for name in ("baseline", "back"))
            return Pressure(
                verification(value["result"]), None if baseline is None else int(baseline), counts, back, cut
            )
        return verification(value) if kind == "verification" else None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def verification(value: Mapping[str, Any]) -> Verification:
    probes = tuple(
        Probe(
            str(one["url"]),
            str(one["phase"]),
            None if one["status"] is None else int(one["status"]),
            sane(one["seconds"]),
            sane(one["at"]),
            bool(one["ok"]),
            str(one["command"]),
        )
        for one in value["probes"]
    )
    if not probes or not sane(value["deadline"]):
        raise ValueError("a verification without a probe, or without a deadline")
    counts = {name: int(sane(value[name])) for name in ("wanted", "opened", "streams", "aborts")}
    counts |= {name: int(sane(value.get(name, 0))) for name in NEWER}
    stream = value["stream_url"]
    return Verification(
        probes,
        sane(value["deadline"]),
        None if stream is None else str(stream),
        notes=tuple(map(str, value["notes"])),
        commands=tuple(map(str, value["commands"])),
        faults=tuple(map(str, value.get("faults", ()))),
        measured=tuple(map(str, value.get("measured", ()))),
        **counts,
    )


def sane(value: Any) -> float:
    """A number that can be drawn. Raises ValueError for any other."""
    number = float(value)
    if not 0 <= number < 1e9:  # NaN is neither
        raise ValueError(f"{number} is no count and no time")
    return number
