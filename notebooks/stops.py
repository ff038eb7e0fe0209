"""The second notebook's desk: start a version of the back office, load it, tell it to stop, see what happens.

    with office(0) as server:          # step_0.py of backoffice/, with the snippets beside it
        ...
    found = stop(0, signal.SIGINT)     # a report under way, a stream open, then the signal
    print(log(found))
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Sequence
from urllib.request import ProxyHandler, Request, build_opener

import lab
import views
from hangdebug.capture import resolve
from hangdebug.diagnose import diagnose, worst
from hangdebug.live import observe
from hangdebug.model import Diagnosis, Patch
from hangdebug.pressure import DURING, Pressure, pressure

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
def office(step: int) -> Iterator[lab.Server]:
    """The back office of that step, and of step 1 on with the snippets, in a folder of its own. Raises LabError."""
    with tempfile.TemporaryDirectory(prefix="office-") as folder:
        shutil.copy(HERE / "backoffice" / f"step_{step}.py", Path(folder) / "office.py")
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


def changed(step: int) -> views.Shown:
    """The step before it and this one, side by side."""
    old, new = ((HERE / "backoffice" / f"step_{number}.py").read_text() for number in (step - 1, step))
    return views.side_by_side(Patch("office.py", old, new))


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
    """A bar for each stop: how long the process lived on. One that never ended is hatched up to where we looked."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(8, 3.4), dpi=90, layout="constrained", facecolor="white")
    axis, words = figure.subplots(), []
    for place, one in enumerate(reversed(found)):
        never = one.seconds is None
        axis.barh(place, PATIENCE if never else one.seconds, color=views.ORANGE if never else views.BLUE,
                  hatch="//" if never else None, edgecolor="white")
        said = f"never: {one.answer.cause}" if never else f"{one.seconds:.3f} s"
        axis.text(0.08 if never else one.seconds + 0.08, place, said, va="center",
                  color="white" if never else "black",
                  bbox={"facecolor": views.ORANGE, "edgecolor": "none", "pad": 2} if never else None)
        words.insert(0, f"{NAMES[one.step]}, {one.number.name}: {said}")
    axis.axvline(GRACE + 0.5, color="black", linestyle="--", linewidth=1)
    axis.set_ylim(-0.6, len(found) + 0.2)
    axis.text(GRACE + 0.55, len(found) - 0.35, "grace + 0.5 s", fontsize=9, va="center")
    axis.set_yticks(range(len(found)), [f"{NAMES[one.step]}, {one.number.name}" for one in reversed(found)])
    axis.set(xlabel="seconds from the signal to the end of the process", xlim=(0, PATIENCE))
    axis.set_title("How long the back office takes to stop", fontsize=11)
    return drawn(figure, words)


def crowd(step: int, aborts: int = 200) -> Pressure:
    """Readers leave, 20 at a time, while /health and /totals are asked."""
    with office(step) as server:
        return pressure([f"{server.url}/health", f"{server.url}/totals"], f"{server.url}/pages", aborts=aborts,
                        deadline=1, pid=server.pid)


def under_pressure(before: Pressure, after: Pressure) -> views.Shown:
    """/health under the crowd, before and after, and the threads after."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(8, 5.2), dpi=90, layout="constrained", facecolor="white")
    axes = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [2, 2, 1.4]})
    words = [health(axes[0], before, NAMES[0], views.ORANGE), health(axes[1], after, "repaired", views.BLUE)]
    axes[2].plot(*zip(*after.counts), color=views.BLUE)
    axes[2].axhline(after.baseline, color="black", linestyle="--", linewidth=1)
    most = max(count for _, count in after.counts)
    last = after.counts[-1][1]
    words.append(f"threads, repaired: {after.baseline} before (dashed), {most} at most, {last} at the end")
    axes[2].set(ylim=(0, most * 1.15), ylabel="threads", xlabel="seconds since the first request")
    axes[2].set_title(words[-1], loc="left", fontsize=10)
    return drawn(figure, words)


def health(axis: Any, found: Pressure, name: str, colour: str) -> str:
    probes = [probe for probe in found.result.probes if probe.url.endswith("/health")]
    good, lost = [probe for probe in probes if probe.ok], [probe for probe in probes if not probe.ok]
    axis.set(yscale="log", ylabel="latency", ylim=(2e-4, found.result.deadline * 5))
    axis.set_yticks([0.001, 0.01, 0.1, 1], ["1 ms", "10 ms", "0.1 s", "1 s"])
    axis.axhline(0.05, color="black", linestyle=":", linewidth=1)
    axis.plot([p.at for p in good], [p.seconds for p in good], ".", color=colour, markersize=7)
    axis.plot([p.at for p in lost], [found.result.deadline] * len(lost), "X", color=colour, markersize=12)
    crowded = sorted(p.seconds for p in good if p.phase == DURING)
    readers = found.result.aborts or "the first"
    words = f"{name}: {len(lost)} of {len(probes)} checks without an answer (X), {readers} readers left"
    words += f"; p99 {crowded[-(-len(crowded) * 99 // 100) - 1]:.3f} s" if crowded else ""
    axis.set_title(words, loc="left", fontsize=10)
    return words


def drawn(figure: Any, words: Sequence[str]) -> views.Shown:
    held = io.BytesIO()
    figure.savefig(held, format="png", metadata={"Software": None})
    return views.Shown("\n".join(words), png=held.getvalue())
