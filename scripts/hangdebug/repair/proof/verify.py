"""Prove with real curl that a backend answers before, while and after its streams are cut off.

    result = verify(["http://127.0.0.1:8000/health"], stream_url="http://127.0.0.1:8000/stream")
    print(table(result))
    result.passed

Give a trivial `async def` URL as a control, and the URL that hung. A hung server still accepts connections,
so only an answer counts: whole, within the deadline, its status below 500.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Callable

from hangdebug.errors import BadRequest, NoProcess
from hangdebug.repair.model import Probe
from hangdebug.repair.proof import curl

BASELINE, STREAMING, ABORTED = PHASES = ("baseline", "while streaming", "after aborts")
ROUNDS = 3  # in the first two phases
LAST_ROUNDS = 5  # after the last abort: a hang may set in late
PAUSE = 0.2  # seconds between rounds
FIRST_BYTE = 5.0  # seconds that a stream gets for its first byte, or the deadline where that is longer
USAGE = "python scripts/hang.py verify --url http://127.0.0.1:8000/health"


@dataclass(frozen=True)
class Verification:
    """Every probe in the order sent, and what became of the streams.

    `wanted` aborts were asked for. Of the streams `opened`, `streams` gave a first byte and `aborts` were cut
    off while they were open. `notes` say what went wrong. `commands` are the curl lines to repeat by hand:
    one for each URL, then the stream's.
    """

    probes: tuple[Probe, ...]
    deadline: float
    stream_url: str | None = None
    wanted: int = 0
    opened: int = 0
    streams: int = 0
    aborts: int = 0
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Probe, ...]:
        return tuple(probe for probe in self.probes if not probe.ok)

    @property
    def complete(self) -> bool:
        """Whether every abort took place. Where it did not, probes that all answer prove nothing."""
        return self.aborts >= self.wanted

    @property
    def passed(self) -> bool:
        return bool(self.probes) and not self.failed and self.complete


@dataclass
class Run:
    """The tally of a verification under way. `notes` is a set that keeps its order."""

    urls: tuple[str, ...]
    deadline: float
    on_probe: Callable[[Probe], object] | None
    began: float = field(default_factory=time.monotonic)
    probes: list[Probe] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    opened: int = 0
    streams: int = 0
    aborts: int = 0

    @property
    def patience(self) -> float:
        return max(FIRST_BYTE, self.deadline)

    @property
    def lifetime(self) -> float:
        """Seconds that a stream may need to stay open: its first byte and every round, each missed once."""
        return self.patience + ROUNDS * (2 * self.deadline + PAUSE) + 10


def verify(
    urls: str | Iterable[str],
    *,
    stream_url: str | None = None,
    aborts: int = 5,
    concurrency: int = 5,
    deadline: float = 2.0,
    on_probe: Callable[[Probe], object] | None = None,
    on_phase: Callable[[str], object] | None = None,
) -> Verification:
    """Probe `urls` alone, while a stream is open, and after `aborts` streams were cut off.

    At most `concurrency` streams are open at once. A phase ends early, with a note, when two rounds of probes
    in a row miss, so a dead server costs a few deadlines however many aborts are asked for. `deadline` is in
    seconds. `on_phase` gets the name of each phase as it begins, `on_probe` each Probe.
    Raises BadRequest, MissingTool (no curl), NoProcess (nothing listens at a URL).
    """
    urls = checked([urls] if isinstance(urls, str) else urls, stream_url, aborts, concurrency, deadline)
    run = Run(urls, deadline, on_probe)
    begin = on_phase or (lambda phase: None)
    begin(BASELINE)
    answers = rounds(run, BASELINE, ROUNDS)
    if stream_url and not answers:
        run.notes["No stream was opened: the server does not even answer without one."] = None
    elif stream_url:
        begin(STREAMING)
        if hold_stream(run, stream_url):
            begin(ABORTED)
            abort_streams(run, stream_url, aborts, concurrency)
    lines = [curl.probe_command(url, deadline) for url in urls]
    lines += [curl.stream_command(stream_url, run.lifetime)] if stream_url else []
    return Verification(
        tuple(run.probes),
        deadline,
        stream_url,
        aborts if stream_url else 0,
        run.opened,
        run.streams,
        run.aborts,
        tuple(run.notes),
        tuple(map(shlex.join, lines)),
    )


def checked(
    urls: Iterable[str], stream_url: str | None, aborts: int, concurrency: int, deadline: float
) -> tuple[str, ...]:
    """The URLs, each once. Raises BadRequest where the arguments make no sense."""
    urls = tuple(dict.fromkeys(urls))
    if not urls:
        raise BadRequest("There is no URL to probe.", "A control URL shows whether the loop lives.", USAGE)
    for url in (*urls, *filter(None, [stream_url])):
        if not curl.is_url(url):
            raise BadRequest(f"{url!r} is not an http or https URL.", "Only HTTP can be probed.", USAGE)
    if aborts < 1 or concurrency < 1:
        raise BadRequest("Aborts and concurrency are counts, from 1 up.", "", f"{USAGE} --aborts 5")
    if not 0.01 <= deadline <= 300:
        raise BadRequest("The deadline is 0.01 to 300 seconds.", "", f"{USAGE} --deadline 2")
    return urls


def hold_stream(run: Run, url: str) -> bool:
    """Probe while one stream is open, then cut it off. False where there is no stream to cut."""
    with curl.streams(url, 1, run.patience, run.lifetime) as (stream,):
        run.opened += 1
        if not stream.flows:
            run.notes[curl.silence(stream, url, run.patience)] = None
            rounds(run, STREAMING, 1)
            return False
        run.streams += 1
        rounds(run, STREAMING, ROUNDS)
        if stream.ended:
            run.notes[f"{url} ended by itself before it could be cut off. Is it a stream?"] = None
            return False
        run.aborts += 1
    return True


def abort_streams(run: Run, url: str, aborts: int, concurrency: int) -> None:
    """Cut off streams until there were `aborts` in all, and probe after each batch."""
    lost = 0
    while (answers := rounds(run, ABORTED, 1)) and run.aborts < aborts:
        with curl.streams(url, min(concurrency, aborts - run.aborts), run.patience, run.lifetime) as batch:
            silent = [stream for stream in batch if not stream.flows]
            run.opened += len(batch)
            run.streams += len(batch) - len(silent)
            cut = sum(stream.flows and not stream.ended for stream in batch)
        run.aborts += cut
        lost += cut < len(batch)
        if silent:
            run.notes[curl.silence(silent[0], url, run.patience)] = None
        if lost == 2 or not cut:  # more streams would only cost more time
            break
    if run.aborts < aborts:
        run.notes[f"No further stream was opened after {run.aborts} of {aborts} aborts."] = None
    if answers:
        rounds(run, ABORTED, LAST_ROUNDS)


def rounds(run: Run, phase: str, count: int) -> bool:
    """Send `count` rounds. One that misses is repeated once; a second miss ends the phase: False."""
    for number in range(count):
        if number:
            time.sleep(PAUSE)
        if not one_round(run, phase) and not one_round(run, phase):
            run.notes[f"The phase {phase!r} ended early: two rounds of probes in a row missed."] = None
            return False
    return True


def one_round(run: Run, phase: str) -> bool:
    """Probe every URL at once. Whether all answered in time."""
    commands = [curl.probe_command(url, run.deadline) for url in run.urls]
    at = time.monotonic() - run.began if run.probes else 0.0
    first, ok = not run.probes, True
    for url, command, answer in zip(run.urls, commands, curl.probe(commands, run.deadline)):
        if first:
            refuse(url, answer)
        good = answer.status is not None and answer.status < 500 and answer.seconds <= run.deadline
        probe = Probe(url, phase, answer.status, answer.seconds, at, good, shlex.join(command))
        run.probes.append(probe)
        if answer.message:
            run.notes[f"{url}: {answer.message}"] = None
        if run.on_probe:
            run.on_probe(probe)
        ok = ok and good
    return ok


def refuse(url: str, answer: curl.Answer) -> None:
    """Raises what the very first answer shows to be a wrong URL instead of a hung server."""
    if answer.code == curl.REFUSED:
        raise NoProcess(f"Nothing listens at {url}.", answer.message, "ss -ltnp")
    if answer.code == curl.COULD_NOT_RESOLVE:
        raise BadRequest(f"The host of {url} is not known.", answer.message, USAGE)


def table(verification: Verification) -> str:
    """The result for people: a row for each phase and URL, the verdict, what went wrong, the curl lines."""
    rows: list[tuple[str, ...]] = [("phase", "probes", "failed", "status", "p50", "p99", "url")]
    for phase in dict.fromkeys(probe.phase for probe in verification.probes):
        for url in dict.fromkeys(probe.url for probe in verification.probes):
            probes = [probe for probe in verification.probes if (probe.phase, probe.url) == (phase, url)]
            if probes:
                rows.append(row(phase, url, probes))
    widths = [max(map(len, column)) for column in list(zip(*rows))[:-1]]
    lines = ["  ".join([*map(str.ljust, cells, widths), cells[-1]]) for cells in rows]
    lines += ["", verdict(verification), *(f"- {note}" for note in verification.notes), "", "Repeat by hand:"]
    if verification.stream_url:
        lines[-1] = "Repeat by hand (end the last one with Ctrl-C after its first bytes, then probe again):"
    return "\n".join(lines + [f"  {command}" for command in verification.commands])


def row(phase: str, url: str, probes: list[Probe]) -> tuple[str, ...]:
    statuses = dict.fromkeys("none" if probe.status is None else str(probe.status) for probe in probes)
    failed = sum(not probe.ok for probe in probes)
    return (
        phase,
        str(len(probes)),
        str(failed),
        ",".join(statuses),
        percentile(probes, 50),
        percentile(probes, 99),
        url,
    )


def percentile(probes: list[Probe], percent: int) -> str:
    """Nearest rank, in seconds: of few probes, the 99th is the worst. Lost ones count as longest."""
    ranked = sorted(probes, key=lambda probe: (probe.status is None, probe.seconds))
    probe = ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]
    return "no answer" if probe.status is None else f"{probe.seconds:.3f} s"


def verdict(verification: Verification) -> str:
    count, failed, limit = len(verification.probes), len(verification.failed), f"{verification.deadline:g} s"
    cut = f"{verification.aborts} of {verification.wanted} streams were cut off"
    if failed:
        return f"FAILED: {failed} of {count} probes had no good answer within {limit}; {cut}."
    if not verification.complete:
        return f"NOT PROVED: all {count} probes were answered within {limit}, but only {cut}."
    return f"PASSED: all {count} probes were answered within {limit}; {cut}."
