"""Who waits for whom, as SVG: threads, and the locks, pools and loops between them."""

from __future__ import annotations

from collections.abc import Sequence

from hangdebug.answer.diagnose import diagnose
from hangdebug.answer.model import Diagnosis
from hangdebug.errors import HangError
from hangdebug.evidence import light as re
from hangdebug.evidence.kernel import in_words
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Evidence, Frame
from hangdebug.report import svg
from hangdebug.report.svg import Picture
from hangdebug.report.thread_rows import IDLE, KINDS, OTHER, Cell, Row, idle, place, rows_of, stretches
from hangdebug.scene.scene import Scene
from hangdebug.scene.scene import scene as scene_of
from hangdebug.scene.waits import drawing

COLUMNS, BOX, GAP, HEIGHT, DROP = 3, 220, 84, 92, 46
NOT_SHOWN = "what lies behind it, the evidence does not show"
AT_WORK = re.compile(r"(\d+) pool threads? at work meanwhile: (.*)\.$")
FOLDER = re.compile(r"(?<=\()[^()]*[/\\](?=[^()/\\]+\))")  # of a file named as in "price (/srv/app/rates.py:12)"
ARROWS = {
    "lock": "held by",
    "future": "made by",
    "join": "which is",
    "pool": "taken by",
    "loop": "run by",
    "task": "resumed by",
}
RING = "Follow the thick arrows and you are back where you began: none of these threads goes on by itself."
CHAIN = "Follow the arrows to whoever has to move first."
MANY = "It is held up by several threads, not by one."
ALONE = "The evidence names no single thread that holds it up."


@dataclass(frozen=True)
class Node:
    """A box of the graph: a thread, or what lies between two of them. `label` is what the arrow that leaves it says."""

    head: str
    words: str
    label: str
    thread: bool = True
    sure: bool = True


def wait_graph(answer: Diagnosis) -> Picture:
    """The graph; the arrows of a ring are thick. Raises HangError where nobody waits for anybody."""
    nodes, edges = nodes_of(answer), answer.waits_for
    ring = is_ring(answer)
    places = around(len(nodes)) if ring else snake(len(nodes))
    height = 2 * 24 + (max(row for _, row in places) + 1) * (HEIGHT + DROP) - DROP
    width = 2 * 24 + (max(column for column, _ in places) + 1) * (BOX + GAP) - GAP
    pairs = list(zip(range(len(nodes)), [*range(1, len(nodes)), 0] if ring else range(1, len(nodes))))
    both_ways = len(nodes) == 2 and ring
    parts = [arrow_between(nodes[one], places[one], places[other], ring, both_ways) for one, other in pairs]
    parts += [box_of(node, place, ring) for node, place in zip(nodes, places)]
    said = "; ".join(map(str, edges)) or f"{nodes[0].head} waits: {nodes[1].words}"
    names = f"{drawing(edges)}" if edges else nodes[0].head
    alt = f"Graph of waits, {'a ring' if ring else 'a chain'}: {names}. {said}"
    behind = "" if answer.state == "loop-busy" else MANY if len(nodes) > 2 else ALONE
    read = RING if ring else CHAIN if edges else behind
    caption = f"{gist(answer)} {read}".rstrip()
    return Picture(svg.card(height, parts, alt, width), alt, caption, graph_in_letters(nodes, ring))


def graph_in_letters(nodes: Sequence[Node], ring: bool) -> str:
    lines = []
    for node in nodes:
        lines.append(f"[{node.head}]{node.words and f'  {node.words}'}")
        lines += [f"   | {node.label}", "   v"] if node.label and (ring or node is not nodes[-1]) else []
    return "\n".join([*lines, *([f"[{nodes[0].head}], again: a ring"] if ring else [])])


def gist(answer: Diagnosis) -> str:
    """What both pictures of an answer show, in the one sentence with which their captions begin."""
    frame, thread = answer.blocking_frame, answer.thread
    if answer.state == "healthy":
        return "Nothing hangs."
    if thread is None:
        return f"No thread is known to hang: {answer.state}."
    if is_ring(answer):
        return f"A ring of waits: {drawing(answer.waits_for)}."
    where = place(Frame(frame.function, frame.file, frame.line)) if frame else place(thread.frames[0])
    who = thread.name or "A thread"
    role = ", the event loop," if answer.role == "event-loop" else ""
    return f"{who}{role} {'computes' if answer.state == 'loop-busy' else 'waits'} in {where}: {answer.cause}."


def is_ring(answer: Diagnosis) -> bool:
    edges = answer.waits_for
    return bool(edges) and edges[-1].waits_for == edges[0].thread


def nodes_of(answer: Diagnosis) -> list[Node]:
    """The boxes in the order of the arrows. Raises HangError."""
    found = []
    for edge in answer.waits_for:
        found.append(Node(edge.thread, f"stands in {edge.frame}" if edge.frame else "", "waits for"))
        found.append(Node(edge.kind, edge.through, ARROWS.get(edge.kind, ""), thread=False, sure=edge.sure))
    if is_ring(answer):
        return found
    return [*found, last_of_chain(answer)] if found else alone(answer)


def last_of_chain(answer: Diagnosis) -> Node:
    """Whoever has to move first, with what the evidence says of it."""
    name = answer.waits_for[-1].waits_for
    begins = (f"{name} stands", f"{name} moves")
    does = next((item[len(name) :].strip(" .") for item in answer.evidence if item.startswith(begins)), "")
    return Node(name, does, "")


def alone(answer: Diagnosis) -> list[Node]:
    """A thread that waits for no single other one: where it stands, its cause, and the pool behind it."""
    if answer.thread is None or answer.state == "healthy":
        raise HangError("No thread waits for another, so there is no graph.", answer.summary)
    frame, kernel = answer.blocking_frame, answer.kernel_wait
    where = f"stands in {frame.function} ({frame.file}:{frame.line})" if frame else str(answer.thread.frames[0])
    wait = f"the kernel has it in {kernel}" if kernel and kernel.syscall else NOT_SHOWN
    if kernel and kernel.syscall == "running":
        wait = "on a CPU"
    verb = "busy with" if answer.state == "loop-busy" else "waits for"
    pools = [found for found in map(AT_WORK.match, answer.evidence) if found]
    count = sum(int(found[1]) for found in pools)
    more = " and elsewhere" * (len(pools) > 1)
    behind = [Node(f"{count} pool thread{'s' * (count != 1)}", f"at work in {pools[0][2]}{more}", "")] if pools else []
    between = Node(answer.cause, wait, "held up by" if pools else "", thread=False)
    return [Node(answer.thread.name or "a thread", where, verb), between, *behind]


def around(count: int) -> list[tuple[int, int]]:
    """Places (column, row) around a rectangle, clockwise: each next to the one before, the last to the first."""
    columns = min(count // 2, COLUMNS)
    rows = (count - 2 * columns) // 2 + 2
    top, bottom = (
        [(column, 0) for column in range(columns)],
        [(column, rows - 1) for column in reversed(range(columns))],
    )
    sides = range(1, rows - 1)
    return top + [(columns - 1, row) for row in sides] + bottom + [(0, row) for row in reversed(sides)]


def snake(count: int) -> list[tuple[int, int]]:
    """Places in rows, one from the left and the next from the right: each next to the one before."""
    rows = [divmod(index, COLUMNS) for index in range(count)]
    return [(COLUMNS - 1 - column if row % 2 else column, row) for row, column in rows]


def corner(place: tuple[int, int]) -> tuple[float, float]:
    return 24 + place[0] * (BOX + GAP), 24 + place[1] * (HEIGHT + DROP)


def arrow_between(node: Node, start: tuple[int, int], end: tuple[int, int], ring: bool, both_ways: bool) -> str:
    """The arrow from a node to the next one, and its label."""
    (x, y), (to_x, to_y) = corner(start), corner(end)
    colour, thick = (svg.VERMILLION, 3.5) if ring else (svg.INK, 1.5)
    if y == to_y:
        right = to_x > x
        level, begin, stop = y + HEIGHT / 2, x + BOX if right else x, to_x if right else to_x + BOX
        label = svg.text((begin + stop) / 2, level - 8, node.label, GAP - 8, svg.FAINT, 11, anchor="middle")
        edge = 2 if right else -2
        return svg.arrow((begin + edge, level), (stop - edge, level), colour, thick, not node.sure) + label
    down = to_y > y
    middle = x + BOX / 2 + (0 if not both_ways else -50 if down else 50)
    begin, stop = (y + HEIGHT + 2, to_y - 2) if down else (y - 2, to_y + HEIGHT + 2)
    label = svg.text(middle + 10, (begin + stop) / 2 + 4, node.label, 90, svg.FAINT, 11)
    return svg.arrow((middle, begin), (middle, stop), colour, thick, not node.sure) + label


def box_of(node: Node, place: tuple[int, int], ring: bool) -> str:
    x, y = corner(place)
    fill, edge = (svg.PAPER, svg.BLUE) if node.thread else (svg.HOLLOW, svg.GREY)
    radius, thick, title = 4 if node.thread else 22, 2.5 if ring else 1.5, f"{node.head}: {node.words}"
    shape = svg.box(x, y, BOX, HEIGHT, fill, edge, radius, thick, not node.sure, title)
    head = svg.text(x + 14, y + 22, node.head, BOX - 22, bold=True)
    lines = svg.wrapped(FOLDER.sub("", node.words), BOX - 28, 4, 11)
    body = [svg.text(x + 14, y + 39 + 14 * index, words, BOX - 20, size=11) for index, words in enumerate(lines)]
    return "".join([shape, head, *body])


# -- the timeline --------------------------------------------------------------------------------------

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
    alt = told(rows, hidden, sum(len(sample) > 0 for sample in scene.samples))
    parts, y = heading(times(scene.evidence, columns)), float(TOP)
    for row in rows:
        tall = LOOP_ROW if row.loop or row.fault else ROW
        parts += row_of_bars(row, y, tall, len(columns))
        y += tall + 4
    if hidden:
        parts.append(svg.text(14, y + 15, f"and {hidden} more threads, in other places", svg.WIDTH - 28, svg.FAINT))
        y += ROW
    lettered = any(">" + kind.letter + "<" in part for kind in KINDS if kind.letter for part in parts)
    colours, height = legend(rows, y + 10, lettered)
    said = f"{gist(answer)} {how_it_looks(rows, len(columns))}".rstrip()
    drawn = timeline_in_letters(rows, hidden, times(scene.evidence, columns))
    return Picture(svg.card(y + 10 + height, parts + colours, alt), alt, said, drawn)


def timeline_in_letters(rows: Sequence[Row], hidden: int, moments: Sequence[str]) -> str:
    """A line a row: its name, a letter a sample, and what it does last; `->` is before the thick edges."""
    width, wide = max(len(row.label) for row in rows), 4 if len(moments) <= 10 else 1
    lines = [f"   {'thread':{width}}  {moments[0]} ... {moments[-1]}" if moments[1:] else f"   {'thread':{width}}"]
    for row in rows:
        bars = "".join((one.kind.letter or "." if one else " ") * wide for one in row.cells)
        last = next(one for one in reversed(row.cells) if one)
        does = f"{row.count} x {last.words}" if row.count > 1 and last.kind is not IDLE else last.words
        lines.append(f"{'->' if row.fault else '  '} {row.label:{width}}  {bars}  {does}")
    there = [kind for kind in KINDS if any(one and one.kind is kind for row in rows for one in row.cells)]
    lines += [f"   and {hidden} more threads, in other places"] if hidden else []
    return "\n".join([*lines, "   " + ", ".join(f"{kind.letter or '.'} {kind.name}" for kind in there)])


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
    means = in_words(one.words.partition(" ")[0])  # where the kernel's word is all that is known
    title = f"{row.label}: {one.words}{means and f' ({means})'}"
    parts = [svg.box(x, y, width, height, one.kind.colour, edge, 3, thick, dashed, title)]
    ink = svg.words_on(one.kind.colour)
    words = f"{row.count} x {one.words}" if row.count > 1 and one.kind is not IDLE else one.words
    middle, room = y + height / 2 + 4, width - 12
    if room > WORDS_ROOM:
        parts.append(svg.text(x + 6, middle, words, room, ink, bold=hang))
    elif width > LETTER_ROOM and one.kind.letter:
        parts.append(svg.text(x + width / 2, middle, one.kind.letter, width, ink, anchor="middle"))
    return parts


def legend(rows: Sequence[Row], y: float, lettered: bool) -> tuple[list[str], float]:
    """What the colours and letters mean, of those that are there; and its height. Each letter stands on its colour."""
    there = {one.kind for row in rows for one in row.cells if one}
    x, height = 14.0, 34.0
    parts: list[str] = []
    for kind in (kind for kind in KINDS if kind in there):
        if x + svg.wide(kind.name) + 44 > svg.WIDTH:
            x, y, height = 14.0, y + 20, height + 20
        parts.append(svg.box(x, y, 16, 16, kind.colour, svg.GREY, radius=2, dashed=kind is OTHER))
        parts.append(svg.text(x + 8, y + 12, kind.letter, 16, svg.words_on(kind.colour), 11, anchor="middle"))
        parts.append(svg.text(x + 22, y + 12, kind.name, 200, svg.INK))
        x += svg.wide(kind.name) + 44
    if lettered:
        said = "A letter stands for the words of the legend, in a bar that has no room for them."
        parts.append(svg.text(14, y + 34, said, svg.WIDTH - 28, svg.FAINT, 11))
        height += 20
    return parts, height


def told(rows: Sequence[Row], hidden: int, samples: int) -> str:
    """The picture for who does not see it."""
    lines = [
        f"{row.label}: {', then '.join(dict.fromkeys(one.words for one in row.cells if one))}" for row in rows[:12]
    ]
    count = sum(row.count for row in rows) + hidden
    threads, moments = f"{count} thread{'s' * (count != 1)}", f"{samples} sample{'s' * (samples != 1)}"
    return f"Timeline of {threads} over {moments}. {'. '.join(lines)}."


def how_it_looks(rows: Sequence[Row], columns: int) -> str:
    """Where in the timeline that is to be seen."""
    faults = [row for row in rows if row.fault]
    if not faults:
        moves = " A row of several bars moves on." if any(len(stretches(row.cells)) > 1 for row in rows) else ""
        rests = "The event loop, the top row, is idle. " if rows[0].loop and idle(rows[0].cells) else ""
        return f"{rests}No bar has a thick edge.{moves}"
    bars = stretches(faults[0].cells)
    solid = "one solid bar" if len(bars) == 1 and columns > 1 else "a bar"
    row = "top row" if faults[0] is rows[0] else f"row {faults[0].label}"
    if faults[1:]:
        return f"In the timeline these are the {len(faults)} rows with a thick edge."
    late = " One sample is one moment: it does not show that it stays there." if columns == 1 else ""
    moved = " It moved between the samples." if len(bars) > 1 else ""
    return f"In the timeline it is {solid} with a thick edge, in the {row}.{moved}{late}"
