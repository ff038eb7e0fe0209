"""Many readers leave at once, again and again, while real curl asks the other routes all the time.

    found = pressure(["http://127.0.0.1:8000/health"], "http://127.0.0.1:8000/stream", pid=4284)
    print(report(found))
    found.passed

`verify` opens few streams and asks between two aborts. This one shows what only a crowd shows: a health check that
is late while twenty streams are torn down at once, and threads that pile up.
"""

from __future__ import annotations

import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Callable, Iterable, Iterator

from hangdebug import curl
from hangdebug.errors import NoProcess
from hangdebug.verify import BASELINE, PAUSE, ROUNDS, Run, Verification, checked, one_round, rounds, table

FIRST, DURING = "after the first batch", "during aborts"
ASKED_EVERY = 0.05  # seconds between the end of a round of probes and the next
SETTLE = 1.0  # seconds after the last abort in which the threads have to be back
MORE = 2  # threads above the baseline that still count as back
FEW_ROUNDS = 2  # that miss one after the other: then no more streams are opened


@dataclass(frozen=True)
class Pressure:
    """A Verification with the phases BASELINE, FIRST and DURING, and the number of the process's threads.

    `counts` are (seconds since the first probe, threads), and `cut` is how many streams had been cut off by then. `baseline` is counted SETTLE seconds after the first
    batch of streams, which is not part of the aborts, so that pools have grown to their size. `back` is the
    number of seconds from the last abort until no more than MORE above it were left, None where that took
    longer than SETTLE. All four are empty or None without a pid.
    """

    result: Verification
    baseline: int | None = None
    counts: tuple[tuple[float, int], ...] = ()
    back: float | None = None
    cut: tuple[int, ...] = ()

    @property
    def passed(self) -> bool:
        return self.result.passed and (self.baseline is None or self.back is not None)


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


def pressure(urls: str | Iterable[str], stream_url: str, *, aborts: int = 200, concurrency: int = 20,
             deadline: float = 2.0, pid: int | None = None,
             on_phase: Callable[[str], object] = lambda phase: None) -> Pressure:
    """Open `concurrency` streams at once, cut them off, and so on until `aborts` were cut, probing all the time.

    Where two rounds of probes in a row miss, no more streams are opened. `pid` is the process whose threads are
    counted (Linux only). Raises BadRequest, MissingTool (no curl), NoProcess.
    """
    urls = checked([urls] if isinstance(urls, str) else urls, stream_url, aborts, concurrency, deadline)
    run = Run(urls, deadline, None)
    baseline, back, counts, gone = None, None, (), ()
    on_phase(BASELINE)
    if not rounds(run, BASELINE, ROUNDS):
        run.notes["No stream was opened: the server does not even answer without one."] = None
    elif warm(run, stream_url, concurrency, on_phase):
        baseline = threads_of(pid) if pid else None
        on_phase(DURING)
        with watching(run, pid) as watch:
            while run.aborts < aborts and watch.missed < FEW_ROUNDS:
                if not cut(run, stream_url, min(concurrency, aborts - run.aborts)):
                    break
            back = settled(pid, baseline)
        counts, gone = tuple(watch.counts), tuple(watch.cut)
    if run.aborts < aborts:
        run.notes[f"No further stream was opened after {run.aborts} of {aborts} aborts."] = None
    lines = [curl.probe_command(url, deadline) for url in urls] + [curl.stream_command(stream_url, run.lifetime)]
    result = Verification(tuple(run.probes), deadline, stream_url, aborts, run.opened, run.streams, run.aborts,
                          tuple(run.notes), tuple(map(shlex.join, lines)))
    return Pressure(result, baseline, counts, back if result.complete else None, gone)


def warm(run: Run, url: str, count: int, on_phase: Callable[[str], object]) -> bool:
    """One batch that does not count, so that pools and caches have grown. Whether the server survived it."""
    on_phase(FIRST)
    flowed = cut(run, url, count)
    answers = rounds(run, FIRST, 1)
    time.sleep(SETTLE if flowed and answers else 0)
    run.opened = run.streams = run.aborts = 0
    return flowed and answers


def cut(run: Run, url: str, count: int) -> bool:
    """Open `count` streams, and cut them off once each gave a first byte. Whether all of them did."""
    with curl.streams(url, count, run.patience, run.lifetime) as batch:
        run.opened += count
        flowing = [stream for stream in batch if stream.flows]
        run.streams += len(flowing)
        run.aborts += sum(not stream.ended for stream in flowing)
        silent = next((stream for stream in batch if not stream.flows), None)
        if silent:
            run.notes[curl.silence(silent, url, run.patience)] = None
    return silent is None


@contextmanager
def watching(run: Run, pid: int | None) -> Iterator[Watch]:
    watch = Watch(run, pid)
    with ThreadPoolExecutor(1) as aside:
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


def threads_of(pid: int) -> int:
    """Raises NoProcess where it is gone, or where there is no /proc."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
    except OSError as error:
        raise NoProcess(f"The threads of process {pid} cannot be counted.", "It ended, or this is not Linux.",
                        "leave --pid out") from error


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
