"""Pictures drawn by hand as SVG, so that a bare Python has them.

There are no ids, no styles and no scripts in them, and the bytes are the same every time. A picture brings its own
card: white, and dark on a dark page that says so with `at_night`. All text in it is untrusted: it is escaped here and
nowhere else.
"""

from __future__ import annotations

import base64
import io
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

from hangdebug.errors import MissingTool, printable
from hangdebug.evidence.light import dataclass
from hangdebug.repair.proof.pressure import DURING, FIRST, Check, Pressure
from hangdebug.repair.proof.verify import LAST_ROUNDS, PHASES, Verification
from hangdebug.report import svg
from hangdebug.report.text import inert

# Okabe and Ito's colours, which the colour-blind can tell apart; INK and PAPER are for words.
INK, FAINT, LINE, PAPER = "#1a1a1a", "#595959", "#d0d0d0", "#ffffff"
ORANGE, SKY, GREEN, YELLOW = "#e69f00", "#56b4e9", "#009e73", "#f0e442"
BLUE, VERMILLION, PURPLE, GREY, PALE = "#0072b2", "#d55e00", "#cc79a7", "#4d4d4d", "#ececec"
HOLLOW = "#fff6d6"  # of what lies between two threads
LIBRARY = "#d6ebf5"  # of a call that is not the application's
BLACK, WHITE = "#000000", "#fefefe"  # words on a bar, whose colour is the same by day and by night
DARK = {BLUE, GREY}  # on these, words are white
# What each colour of the left becomes on a dark page. Bars keep theirs: they mean something.
NIGHT = {
    INK: "#e8e8e8",
    FAINT: "#b0b0b0",
    LINE: "#474c55",
    PAPER: "#1d2025",
    PALE: "#3a3f48",
    GREY: "#767676",
    HOLLOW: "#453a14",
    LIBRARY: "#1e3d52",
}
SANS, MONO = "Helvetica, Arial, sans-serif", "DejaVu Sans Mono, Menlo, Consolas, monospace"
WIDTH = 880
SIZE = 12
EM = {SANS: 0.58, MONO: 0.61}  # the width of a letter, rather too much than too little


@dataclass(frozen=True)
class Picture:
    """Something to look at, as SVG or PNG. `alt` says it in words to who cannot see it, `caption` what to see in it.

    `text` is the same drawn in letters, for where no picture can be shown; "" where a table says it.
    """

    data: bytes
    alt: str
    caption: str
    text: str = ""

    @property
    def is_png(self) -> bool:
        return self.data.startswith(b"\x89PNG")

    @property
    def element(self) -> str:
        """As HTML, without a caption: the SVG itself, or an image that holds its data."""
        return self.image if self.is_png else self.data.decode()

    @property
    def image(self) -> str:
        """As an image that holds its data: a notebook that nobody has run yet shows no SVG that stands in a page."""
        kind = "png" if self.is_png else "svg+xml"
        return f'<img alt="{inert(self.alt)}" src="data:image/{kind};base64,{base64.b64encode(self.data).decode()}">'

    def html(self) -> str:
        return f"<figure>{self.element}<figcaption>{inert(self.caption)}</figcaption></figure>"

    def __repr__(self) -> str:
        return f"{self.alt}\n{self.caption}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        page = f"<figure>{self.image}<figcaption>{inert(self.caption)}</figcaption></figure>"
        return {"text/html": f'<div style="overflow-x: auto">{page}</div>', "text/plain": repr(self)}


def card(height: float, parts: Iterable[str], alt: str, width: float = WIDTH) -> bytes:
    """A whole picture on its card."""
    inner = "".join(parts)
    back = box(0.5, 0.5, width - 1, height - 1, PAPER, LINE, radius=6)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(width)} {number(height)}" '
        f'width="{number(width)}" height="{number(height)}" role="img" aria-label="{escaped(alt)}" '
        f'font-family="{SANS}" font-size="{SIZE}">{back}{inner}</svg>'
    ).encode("utf-8", "replace")


def at_night(scope: str) -> str:
    """The style rules that turn the pictures below the selector `scope` dark."""
    rules = [
        f'{scope} svg [{what}="{day}"] {{ {what}: {night}; }}'
        for day, night in NIGHT.items()
        for what in ("fill", "stroke")
    ]
    charts = f"{scope} figure img {{ filter: invert(.89) hue-rotate(180deg); }}"  # drawn by matplotlib
    return "\n".join([*rules, charts])


def words_on(colour: str) -> str:
    """The colour of words on a box of that colour: one that stays as it is where that does."""
    return WHITE if colour in DARK else INK if colour in NIGHT else BLACK


def box(
    x: float,
    y: float,
    width: float,
    height: float,
    fill: str,
    stroke: str = "none",
    radius: float = 0,
    thick: float = 1,
    dashed: bool = False,
    title: str = "",
) -> str:
    more = f' rx="{number(radius)}"' if radius else ""
    more += f' stroke="{stroke}" stroke-width="{number(thick)}"' if stroke != "none" else ""
    more += ' stroke-dasharray="4 3"' if dashed else ""
    shape = (
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" fill="{fill}"{more}'
    )
    return f"{shape}><title>{escaped(title)}</title></rect>" if title else f"{shape}/>"


def text(
    x: float,
    y: float,
    words: str,
    room: float,
    fill: str = INK,
    size: float = SIZE,
    bold: bool = False,
    font: str = SANS,
    anchor: str = "start",
) -> str:
    """One line of words, cut with an ellipsis where they need more than `room`."""
    words = clipped(words, room, size, font)
    if not words:
        return ""
    more = f' font-size="{number(size)}"' if size != SIZE else ""
    more += ' font-weight="bold"' if bold else ""
    more += f' font-family="{font}"' if font != SANS else ""
    more += f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{number(x)}" y="{number(y)}" fill="{fill}"{more}>{escaped(words)}</text>'


def line(points: Sequence[tuple[float, float]], stroke: str, thick: float = 1, dashed: bool = False) -> str:
    path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    more = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="{number(thick)}"{more}/>'


def arrow(
    start: tuple[float, float], end: tuple[float, float], stroke: str, thick: float = 1.5, dashed: bool = False
) -> str:
    """A straight line with a head: horizontal or vertical."""
    (x, y), (to_x, to_y) = start, end
    length = max(abs(to_x - x), abs(to_y - y)) or 1
    along, across = ((to_x - x) / length, (to_y - y) / length), ((y - to_y) / length, (to_x - x) / length)
    base = (to_x - 9 * along[0], to_y - 9 * along[1])
    wings = [(base[0] + side * 4.5 * across[0], base[1] + side * 4.5 * across[1]) for side in (1, -1)]
    head = " ".join(f"{number(a)},{number(b)}" for a, b in (end, *wings))
    return line((start, base), stroke, thick, dashed) + f'<polygon points="{head}" fill="{stroke}"/>'


def wide(words: str, size: float = SIZE, font: str = SANS) -> float:
    """How much room words need, about: the font is the reader's."""
    return sum(1.0 if unicodedata.east_asian_width(char) in "WF" else EM[font] for char in words) * size


def clipped(words: str, room: float, size: float = SIZE, font: str = SANS) -> str:
    words = " ".join(printable(words).split())
    if wide(words, size, font) <= room:
        return words
    kept, left = [], room - wide("\u2026", size, font)
    for char in words:
        left -= wide(char, size, font)
        if left < 0:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "\u2026" if len(kept) > 1 else ""


def wrapped(words: str, room: float, most: int, size: float = SIZE) -> list[str]:
    """Words in at most `most` lines, a long one broken; the last line ends in an ellipsis if there was more."""
    pieces: list[str] = []
    for whole in printable(words).split():
        word = whole
        while wide(word, size) > room:
            fits = next(count for count in range(len(word), 0, -1) if wide(word[:count], size) <= room or count == 1)
            pieces.append(word[:fits])
            word = word[fits:]
        pieces += [word] if word else []
    lines: list[str] = []
    for piece in pieces:
        if lines and wide(f"{lines[-1]} {piece}", size) <= room:
            lines[-1] += f" {piece}"
        else:
            lines.append(piece)
    return lines if len(lines) <= most else [*lines[: most - 1], clipped(" ".join(lines[most - 1 :]), room, size)]


def escaped(words: str) -> str:
    return inert(words).replace("\n", " ")


def number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


# -- charts of what was measured -----------------------------------------------------------------------
# The charts of what was measured: latency around the aborts, threads over the aborts. They need matplotlib.

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
