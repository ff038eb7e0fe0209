"""Every thread over the samples, coloured by what it waits in, as SVG: engine nouns in, a Picture out."""

from __future__ import annotations

from typing import Sequence

from hangdebug.answer.diagnose import diagnose
from hangdebug.answer.model import Diagnosis
from hangdebug.errors import HangError
from hangdebug.evidence.model import Evidence
from hangdebug.report import svg
from hangdebug.report.svg import Picture
from hangdebug.report.thread_rows import IDLE, KINDS, OTHER, Cell, Row, idle, rows_of, stretches
from hangdebug.scene.scene import Scene
from hangdebug.scene.scene import scene as scene_of

MOST_ROWS, MOST_COLUMNS = 22, 40
LEFT, TOP, ROW, LOOP_ROW = 196, 44, 24, 34
WORDS_ROOM, LETTER_ROOM = 90, 11  # what words, or a letter, need of a bar


def timeline(seen: Evidence | Scene, answer: Diagnosis | None = None) -> Picture:
    """The picture: the loop's row is on top, and the hang is one solid bar.

    Raises HangError where there is no thread, as of a process that the kernel has stopped.
    """
    scene = seen if isinstance(seen, Scene) else scene_of(seen)
    answer = answer or diagnose(scene.evidence)
    columns = spread(len(scene.samples))
    rows, hidden = fitting(rows_of(scene, answer, columns))
    if not rows:
        raise HangError("There is no thread to draw.", answer.summary)
    alt = in_words(rows, hidden, sum(len(sample) > 0 for sample in scene.samples))
    parts, y = heading(times(scene.evidence, columns)), float(TOP)
    for row in rows:
        tall = LOOP_ROW if row.loop or row.fault else ROW
        parts += row_of_bars(row, y, tall, len(columns))
        y += tall + 4
    if hidden:
        parts.append(svg.text(14, y + 15, f"and {hidden} more threads, in other places", svg.WIDTH - 28, svg.FAINT))
        y += ROW
    colours, height = legend(rows, y + 10)
    return Picture(svg.card(y + 10 + height, parts + colours, alt), alt, caption(rows, answer, len(columns)))


def spread(count: int) -> list[int]:
    """Which samples are drawn: all, or as many as there is room for, evenly."""
    if count <= MOST_COLUMNS:
        return list(range(count))
    return [round(index * (count - 1) / (MOST_COLUMNS - 1)) for index in range(MOST_COLUMNS)]


def times(evidence: Evidence, columns: Sequence[int]) -> list[str]:
    """When each sample was taken, from the first one on; their numbers where that is not known."""
    readings = [evidence.attached[index] for index in columns if index < len(evidence.attached)]
    moments = [reading.at for reading in readings if reading]
    if len(moments) == len(columns):
        return [f"{moment - moments[0]:.2f} s" for moment in moments]
    return [f"sample {index + 1}" for index in columns]


def fitting(rows: list[Row]) -> tuple[list[Row], int]:
    """The rows for which there is room, and how many threads are in the others; a row of idle threads is kept."""
    if len(rows) <= MOST_ROWS:
        return rows, 0
    crowd = [row for row in rows[MOST_ROWS:] if row.count > 1][-1:]
    kept = rows[: MOST_ROWS - len(crowd)] + crowd
    return kept, sum(row.count for row in rows) - sum(row.count for row in kept)


def heading(moments: Sequence[str]) -> list[str]:
    """The time of each sample that has room for it, over a thin line where the sample begins."""
    width, parts, free = span(len(moments)), [svg.text(14, 24, "thread", LEFT - 24, svg.FAINT)], 0.0
    for index, words in enumerate(moments):
        x = LEFT + index * width
        if x >= free:
            parts.append(svg.text(x + 2, 24, words, 80, svg.FAINT))
            free = x + svg.wide(words) + 14
        parts.append(svg.line([(x, 32), (x, 38)], svg.LINE))
    return parts


def span(count: int) -> float:
    return (svg.WIDTH - LEFT - 14) / max(count, 1)


def row_of_bars(row: Row, y: float, height: float, count: int) -> list[str]:
    """The name of a row, and a bar for each stretch in which it did one thing."""
    parts = [svg.text(14, y + height / 2 + 4, row.label, LEFT - 22, bold=row.loop or row.fault)]
    for start, end, one in stretches(row.cells):
        parts += bar(row, one, LEFT + start * span(count), y, (end - start) * span(count) - 2, height)
    return parts


def bar(row: Row, one: Cell, x: float, y: float, width: float, height: float) -> list[str]:
    """A bar with words in it, or where there is no room for them, a letter."""
    hang = row.fault and one.kind is not IDLE
    edge = svg.INK if hang else svg.GREY if one.kind is OTHER else "none"
    thick, dashed = 2.5 if hang else 1, one.kind is OTHER and not hang
    title = f"{row.label}: {one.words}"
    parts = [svg.box(x, y, width, height, one.kind.colour, edge, 3, thick, dashed, title)]
    ink = svg.PAPER if one.kind.colour in svg.DARK else svg.INK
    words = f"{row.count} x {one.words}" if row.count > 1 and one.kind is not IDLE else one.words
    middle, room = y + height / 2 + 4, width - 12
    if room > WORDS_ROOM:
        parts.append(svg.text(x + 6, middle, words, room, ink, bold=hang))
    elif width > LETTER_ROOM and one.kind.letter:
        parts.append(svg.text(x + width / 2, middle, one.kind.letter, width, ink, anchor="middle"))
    return parts


def legend(rows: Sequence[Row], y: float) -> tuple[list[str], float]:
    """What the colours and letters mean, of those that are there; and its height."""
    there = {one.kind for row in rows for one in row.cells if one}
    x, height = 14.0, 34.0
    parts: list[str] = []
    for kind in (kind for kind in KINDS if kind in there):
        words = f"{kind.letter}  {kind.name}".strip() if kind.letter else kind.name
        if x + svg.wide(words) + 40 > svg.WIDTH:
            x, y, height = 14.0, y + 20, height + 20
        parts.append(svg.box(x, y, 14, 14, kind.colour, svg.GREY, radius=2, dashed=kind is OTHER))
        parts.append(svg.text(x + 20, y + 11, words, 200, svg.INK))
        x += svg.wide(words) + 40
    return parts, height


def in_words(rows: Sequence[Row], hidden: int, samples: int) -> str:
    """The picture for who does not see it."""
    lines = [
        f"{row.label}: {', then '.join(dict.fromkeys(one.words for one in row.cells if one))}" for row in rows[:12]
    ]
    count = sum(row.count for row in rows) + hidden
    threads, moments = f"{count} thread{'s' * (count != 1)}", f"{samples} sample{'s' * (samples != 1)}"
    return f"Timeline of {threads} over {moments}. {'. '.join(lines)}."


def caption(rows: Sequence[Row], answer: Diagnosis, columns: int) -> str:
    """What to see in the picture."""
    faults = [row for row in rows if row.fault]
    rests = ", and idle" if idle(rows[0].cells) else ""
    loop = f"The event loop is the top row{rests}" if rows[0].loop else ""
    if not faults:
        moves = " A row of several bars moves on." if any(len(stretches(row.cells)) > 1 for row in rows) else ""
        why = "nothing hangs" if answer.state == "healthy" else answer.state
        return f"{loop or 'There is no event loop here'}. No bar has a dark edge: {why}.{moves}"
    bars = stretches(faults[0].cells)
    solid = "one solid bar" if len(bars) == 1 and columns > 1 else "a bar"
    prefix = f"{loop}. " if loop else ""
    who = "The event loop, the top row," if faults[0].loop else f"{prefix}The hang, {faults[0].label},"
    rest = f" The other dark edges, {len(faults) - 1}, belong to it." if faults[1:] else ""
    late = " One sample is one moment: it does not show that it stays there." if columns == 1 else ""
    return f"{who} is {solid} with a dark edge: {bars[-1][2].words}.{rest}{late}"
