"""Who waits for whom, as SVG: threads, and the locks, pools and loops between them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hangdebug.answer.model import Diagnosis
from hangdebug.errors import HangError
from hangdebug.report import svg
from hangdebug.report.svg import Picture
from hangdebug.scene.model import drawing

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
RING = "A ring: follow the thick arrows and you are back where you began. None of these threads goes on by itself."
CHAIN = "A chain: follow the arrows to whoever has to move first."
ALONE = "Where it stands, and what it waits for. The evidence names no single thread that holds it up."


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
    return Picture(svg.card(height, parts, alt, width), alt, RING if ring else CHAIN if edges else ALONE)


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
    behind = [Node(f"{count} pool thread{'s' * (count != 1)}", f"at work in {pools[0][2]}", "")] if pools else []
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
    fill, edge = (svg.PAPER, svg.BLUE) if node.thread else ("#fff6d6", svg.GREY)
    radius, thick, title = 4 if node.thread else 22, 2.5 if ring else 1.5, f"{node.head}: {node.words}"
    shape = svg.box(x, y, BOX, HEIGHT, fill, edge, radius, thick, not node.sure, title)
    head = svg.text(x + 14, y + 22, node.head, BOX - 22, bold=True)
    lines = svg.wrapped(FOLDER.sub("", node.words), BOX - 28, 4, 11)
    body = [svg.text(x + 14, y + 39 + 14 * index, words, BOX - 20, size=11) for index, words in enumerate(lines)]
    return "".join([shape, head, *body])
