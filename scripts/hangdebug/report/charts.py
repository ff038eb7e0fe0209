"""The charts of what was measured: latency around the aborts, threads over the aborts. They need matplotlib."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from itertools import cycle
from typing import Any

from hangdebug.errors import MissingTool
from hangdebug.repair.proof.pressure import DURING, FIRST, Check, Pressure
from hangdebug.repair.proof.verify import LAST_ROUNDS, PHASES, Verification
from hangdebug.report import svg
from hangdebug.report.svg import Picture

WORST, BEST = svg.VERMILLION, svg.BLUE  # of the runs that failed, and of those that passed
MOST_LABEL = 110  # letters
SHORTER = {
    **dict(zip(PHASES, ("before", "stream open", "after clients left"))),
    FIRST: "first batch",
    DURING: "clients leave all the time",
}
STYLES = (("-", "X"), ("--", "o"), ("-.", "s"), (":", "^"))
FLOOR = 2e-4  # seconds: what is faster is drawn here


def latency(runs: Check | Mapping[str, Check]) -> Picture:
    """How long the first URL took before, during and after the aborts, a panel a run.

    Raises MissingTool without matplotlib.
    """
    named = runs if isinstance(runs, Mapping) else {"verification": runs}
    results = {name: one.result if isinstance(one, Pressure) else one for name, one in named.items()}
    figure = canvas(0.6 + 2.1 * len(results))
    panels = figure.subplots(len(results), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    words = [draw_run(axis, run, name) for axis, (name, run) in zip(panels, results.items())]
    panels[-1].set_xlabel("seconds since the first request")
    lost = any(run.failed for run in results.values())
    end = "Hatched bars are requests that got no answer" if lost else "All were answered"
    caption = f"Each mark is one request by curl; look right of where clients have left. {end} before the deadline."
    return Picture(saved(figure), "Latency on a log scale. " + " ".join(words), caption)


def draw_run(axis: Any, run: Verification, name: str) -> str:
    """Draw a run, and say it in words.

    Dots are answers, hatched bars are requests without one, triangles are clients that leave.
    """
    probes = [probe for probe in run.probes if probe.url == run.probes[0].url]
    good, lost = [probe for probe in probes if probe.ok], [probe for probe in probes if not probe.ok]
    late = [probe.at for probe in probes if probe.phase == PHASES[-1]]
    left = late[:-LAST_ROUNDS] or late[:1]  # clients leave just before these
    colour = WORST if lost else BEST
    axis.set(yscale="log", ylim=(FLOOR, max(run.deadline, 1) * 9))
    axis.set_yticks([0.001, 0.01, 0.1, 1], ["1 ms", "10 ms", "0.1 s", "1 s"])
    axis.grid(axis="y", alpha=0.3)
    axis.axhline(run.deadline, color="black", linestyle="--", linewidth=1)
    axis.annotate(
        f"deadline {run.deadline:g} s",
        (0, run.deadline),
        (4, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        fontsize=8,
    )
    for index, phase in enumerate(dict.fromkeys(probe.phase for probe in probes)):
        begin = next(probe.at for probe in probes if probe.phase == phase)
        axis.axvline(begin, color="0.6", linewidth=1)
        axis.annotate(
            SHORTER.get(phase, phase),
            (begin, 0.99),
            (3, -19 if index % 2 else -9),
            fontsize=8,
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
        )
    axis.plot(left, [FLOOR * 1.5] * len(left), "^", color="black", markersize=8, zorder=3)
    if left:
        axis.annotate(
            "clients leave",
            (left[-1], FLOOR * 1.5),
            (8, -3),
            textcoords="offset points",
            fontsize=8,
            zorder=3,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axis.plot([p.at for p in good], [max(p.seconds, FLOOR) for p in good], "o", color=colour, markersize=5)
    for p in lost:
        axis.fill_between(
            [p.at, p.at + max(p.seconds, 0.05)], FLOOR, run.deadline, hatch="///", facecolor="none", edgecolor=colour
        )
        axis.plot(p.at + p.seconds, run.deadline, "X", color=colour, markeredgecolor="black", markersize=11)
    slowest = max((probe.seconds for probe in good), default=0.0)
    verdict = (
        f"{len(lost)} of {len(probes)} without an answer"
        if lost
        else f"all {len(probes)} answered, the slowest in {slowest:.3f} s"
    )
    axis.set_title(f"{name}: {verdict}", loc="left", fontsize=10, fontweight="bold", parse_math=False)
    return f"{name}: {verdict}; {run.aborts} client{'s' * (run.aborts != 1)} left the stream."


def threads_over_aborts(runs: Mapping[str, Pressure]) -> Picture:
    """The number of threads while streams are cut off, a line a run. Raises MissingTool without matplotlib."""
    figure, words = canvas(3.4), []
    axis = figure.subplots()
    for (name, run), style in zip(runs.items(), cycle(STYLES)):
        words.append(draw_count(axis, name, run, *style))
    axis.set(xlabel="streams that were cut off", ylabel="threads of the process", ylim=(0, None), xlim=(0, None))
    axis.grid(alpha=0.3)
    axis.margins(x=0.02)
    figure.legend(loc="outside upper left", fontsize=9, frameon=False)
    caption = (
        "A line that climbs with every client who leaves is a leak: threads that nobody needs any more. "
        "A good one stays level, or comes down again."
    )
    return Picture(saved(figure), "Threads over aborts. " + " ".join(words), caption)


def draw_count(axis: Any, name: str, run: Pressure, dashes: str, mark: str) -> str:
    colour = BEST if run.passed else WORST
    if not run.counts:
        why = run.result.notes[0].rstrip(".") if run.result.notes else "the threads were not asked for"
        axis.plot(
            [], [], color=colour, linestyle=dashes, marker=mark, label=literal(shortened(f"{name}: not counted; {why}"))
        )
        return f"{name}: not counted; {why}."
    aborts, threads = run.cut, [count for _, count in run.counts]
    most, last = max(threads), threads[-1]
    axis.plot(
        aborts,
        threads,
        color=colour,
        linestyle=dashes,
        linewidth=2,
        label=literal(f"{name}: {most} at most, {last} in the end"),
    )
    axis.plot(aborts[-1], last, mark, color=colour, markeredgecolor="black", markersize=9)
    return f"{name}: {run.baseline} before, {most} at most, {last} after {run.result.aborts} aborts."


def shortened(words: str) -> str:
    return words if len(words) <= MOST_LABEL else f"{words[: MOST_LABEL - 1].rstrip()}\u2026"


def literal(words: str) -> str:
    """Not read as a formula, nor as a name to be hidden from the legend."""
    return words.replace("$", r"\$").lstrip("_")


def canvas(height: float) -> Any:
    """A white figure: it reads alike on a light and on a dark page. Raises MissingTool."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingTool(
            "This picture needs matplotlib.",
            f"{error.name} is not installed.",
            f"{sys.executable} -m pip install matplotlib",
        ) from error
    return Figure(figsize=(8.8, height), dpi=100, layout="constrained", facecolor="white")


def saved(figure: Any) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()
