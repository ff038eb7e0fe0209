"""The second notebook's desk: start a version of the back office, load it, tell it to stop, see what happens.

with office(0) as server:          # backoffice/office.py, with the snippets beside it
    ...
found = stop(0, signal.SIGINT)     # a report under way, a stream open, then the signal
print(log(found))
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

import lab
import views
from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.capture.processes import resolve
from hangdebug.observe import observe
from hangdebug.repair import fix
from hangdebug.repair.model import Patch
from hangdebug.repair.proof.pressure import DURING, Pressure, pressure
from hangdebug.repair.proof.verify import percentile
from hangdebug.report import svg
from hangdebug.report.svg import Picture

HERE = Path(__file__).resolve().parent
GRACE, PATIENCE = 3, 4.5  # seconds: what the server is given to end, and how long the notebook looks on
STREAMS = 10
NAMES = ("as it was", "1: streams end", "2: services stop", "3: cleanup stops")
ask = build_opener(ProxyHandler({})).open  # on this machine: never through a proxy


@dataclass(frozen=True)
class Stop:
    """What became of a signal: the log from then on, the seconds to the end of the process, or why there is none.

    `seconds` is None where it was still alive after PATIENCE; `answer` is the diagnosis of that.
    """

    step: int
    number: signal.Signals
    seconds: float | None
    lines: tuple[str, ...]
    answer: Diagnosis | None = None


@contextmanager
def office(step: int, source: str = "") -> Iterator[lab.Server]:
    """The back office of that step, or of that source, beside the snippets in a folder of its own. Raises LabError."""
    with tempfile.TemporaryDirectory(prefix="office-") as folder:
        (Path(folder) / "office.py").write_text(source or source_of(step), encoding="utf-8")
        for snippet in (HERE.parent / "snippets").glob("*.py"):
            shutil.copy(snippet, folder)
        grace = ("--timeout-graceful-shutdown", str(GRACE)) if step else ()
        with lab.start(folder, "office:app", args=("--loop", "asyncio", *grace)) as server:
            yield server


def stop(step: int, number: signal.Signals) -> Stop:
    """Start a long report, open streams, send the signal. What still lives after PATIENCE is captured and diagnosed."""
    with office(step) as server:
        ask(Request(f"{server.url}/reports", method="POST"), timeout=5)
        streams = [ask(f"{server.url}/pages", timeout=5) for _ in range(STREAMS if step else 1)]
        for stream in streams:
            stream.readline()
        before = len(server.log.read_text())
        began = time.monotonic()
        os.kill(server.pid, number)
        try:
            server.process.wait(PATIENCE)
            seconds, answer = time.monotonic() - began, None
        except subprocess.TimeoutExpired:
            seconds, answer = None, seen(server.pid)
        for stream in streams:
            stream.close()
        lines = re.findall(r"^(?:INFO|WARNING|ERROR): +(.+)$", server.log.read_text()[before:], re.M)
    return Stop(step, number, seconds, tuple(line for line in lines if '"GET ' not in line), answer)


def both(step: int) -> list[Stop]:
    """After SIGTERM and after SIGINT, tried side by side."""
    with ThreadPoolExecutor(2) as aside:
        return list(aside.map(stop, [step] * 2, [signal.SIGTERM, signal.SIGINT]))


def seen(pid: int) -> Diagnosis:
    with tempfile.TemporaryDirectory(prefix="seen-") as folder:
        return worst(map(diagnose, observe(resolve(pid), Path(folder) / "evidence", lambda line: None)))


def log(found: Stop) -> str:
    """The server's own words after the signal, and what they came to."""
    end = f"-- still alive {PATIENCE:g} s after {found.number.name}"
    if found.seconds is not None:
        end = f"-- gone {found.seconds:.3f} s after {found.number.name}"
    return "\n".join([*found.lines, end])


def why(found: Stop) -> str:
    """State and cause of what still lives, and the sentence for it."""
    if found.answer is None:
        return "It has ended: there is nothing to diagnose."
    where = re.sub(r"\S*/(?=office\.py)", "", found.answer.summary)
    return f"{found.answer.state} / {found.answer.cause}\n{where}"


def source_of(step: int) -> str:
    """The back office as it was, after the first `step` diffs of steps.diff. Raises LabError."""
    folder = HERE / "backoffice"
    source = (folder / "office.py").read_text(encoding="utf-8")
    for _, diff in lab.diffs(folder / "steps.diff")[:step]:
        source = lab.patched(source, diff)
    return source


def changed(step: int) -> views.Shown:
    """The step before it and this one, side by side."""
    return views.side_by_side(Patch("office.py", source_of(step - 1), source_of(step)))


def rewritten() -> Patch:
    """What `hang.py fix` makes of the back office as it was, by itself. Raises MissingTool."""
    return replace(fix.propose(HERE / "backoffice" / "office.py"), file="office.py")


def compared(found: Sequence[Stop]) -> views.Shown:
    rows = []
    for step, name in enumerate(NAMES):
        mine = {one.number: one for one in found if one.step == step}
        rows.append((name, *(ended(mine.get(number)) for number in (signal.SIGTERM, signal.SIGINT))))
    return views.table(("back office", "after SIGTERM", "after SIGINT"), rows)


def ended(one: Stop | None) -> str:
    if one is None:
        return "not tried"
    if one.seconds is None:
        return f"never: {one.answer.cause}"
    within = "within" if one.seconds <= GRACE + 0.5 else "NOT within"
    return f"{within} {GRACE} + 0.5 s: {one.seconds:.3f} s"


def picture(found: Sequence[Stop]) -> views.Shown:
    """A bar for each stop: how long the process lived on. One that never ended is hatched, up to where we looked."""
    figure = svg.canvas(3.6)
    axis, bars, names, words = figure.subplots(), list(reversed(found)), [], []
    for place, one in enumerate(bars):
        never = one.seconds is None
        said = f"never ends: {one.answer.cause}" if never else f"{one.seconds:.2f} s"
        axis.barh(
            place,
            PATIENCE if never else one.seconds,
            color=views.ORANGE if never else views.BLUE,
            hatch="//" if never else None,
            edgecolor="white",
            height=0.84,
        )
        axis.text(
            0.06 if never else one.seconds + 0.06,
            place,
            said,
            va="center",
            fontsize=9,
            fontweight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )
        names.append(one.number.name)
        words.insert(0, f"{NAMES[one.step]}, {one.number.name}: {ended(one)}")
        if place and bars[place - 1].step != one.step:
            axis.axhline(place - 0.5, color="0.8", linewidth=1)
    axis.axvline(GRACE + 0.5, color="black", linestyle="--", linewidth=1)
    axis.text(GRACE + 0.5, len(bars) - 0.4, "the grace and 0.5 s", fontsize=8, ha="center", va="bottom")
    axis.set_yticks(range(len(bars)), names, fontsize=8)
    for step in {one.step for one in bars}:
        rows = [place for place, one in enumerate(bars) if one.step == step]
        axis.text(
            -0.11,
            sum(rows) / len(rows),
            NAMES[step],
            transform=axis.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=10,
        )
    axis.set(
        xlim=(0, PATIENCE), ylim=(-0.5, len(bars) - 0.5), xlabel="seconds from the signal to the end of the process"
    )
    axis.spines[["top", "right"]].set_visible(False)
    return views.Shown("\n".join(words), png=svg.saved(figure))


def crowd(step: int, source: str = "", aborts: int = 200) -> Pressure:
    """Readers leave, 20 at a time, while /health and /totals are asked."""
    with office(step, source) as server:
        return pressure(
            [f"{server.url}/health", f"{server.url}/totals"],
            f"{server.url}/pages",
            aborts=aborts,
            deadline=1,
            pid=server.pid,
        )


def crowds(runs: Mapping[str, Pressure]) -> views.Shown:
    """A row a crowd: what was lost, how late /health was at worst, and whether the threads came back."""
    rows = []
    for name, run in runs.items():
        health = [one for one in run.result.probes if one.phase == DURING and one.url.endswith("/health")]
        lost = "none" if not run.result.failed else "all from the first batch on" if not health else "some"
        threads = "not counted" if not run.counts else "left behind" if run.back is None else "back within 1 s"
        left = f"{run.result.aborts} of {run.result.wanted}"
        rows.append((name, left, lost, percentile(health, 99) if health else "no answer", threads))
    return views.table(("back office", "readers that left", "requests lost", "/health p99", "threads"), rows)


def under_pressure(runs: Mapping[str, Pressure]) -> tuple[Picture, Picture]:
    """/health under each crowd, and the threads of those that lived, over the readers that left."""
    counted = {name: one for name, one in runs.items() if one.counts}
    return svg.latency({name: one.result for name, one in runs.items()}), svg.threads_over_aborts(counted)
