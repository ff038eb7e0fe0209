"""Pictures drawn by hand as SVG, so that a bare Python has them: no ids, no styles, no scripts, the same bytes every time.

A picture brings its own white card, so it reads alike on a light and on a dark page. All text in it is untrusted:
it is escaped here and nowhere else.
"""

from __future__ import annotations

import base64
import html
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Iterable, Sequence

from hangdebug.answer.model import Diagnosis
from hangdebug.errors import HangError
from hangdebug.report.text import printable
from hangdebug.scene.rings import drawing

# Okabe and Ito's colours, which the colour-blind can tell apart; INK and PAPER are for words.
INK, FAINT, LINE, PAPER = "#1a1a1a", "#595959", "#d0d0d0", "#ffffff"
ORANGE, SKY, GREEN, YELLOW = "#e69f00", "#56b4e9", "#009e73", "#f0e442"
BLUE, VERMILLION, PURPLE, GREY, PALE = "#0072b2", "#d55e00", "#cc79a7", "#4d4d4d", "#ececec"
DARK = {BLUE, GREY, INK}  # on these, words are white
SANS, MONO = "Helvetica, Arial, sans-serif", "DejaVu Sans Mono, Menlo, Consolas, monospace"
WIDTH = 880
SIZE = 12
EM = {SANS: 0.58, MONO: 0.61}  # the width of a letter, rather too much than too little


@dataclass(frozen=True)
class Picture:
    """Something to look at, as SVG or PNG. `alt` says it in words to who cannot see it, `caption` what to see in it."""

    data: bytes
    alt: str
    caption: str

    @property
    def is_png(self) -> bool:
        return self.data.startswith(b"\x89PNG")

    @property
    def element(self) -> str:
        """As HTML, without a caption: the SVG itself, or an image that holds its data."""
        if not self.is_png:
            return self.data.decode()
        return f'<img alt="{html.escape(self.alt)}" src="data:image/png;base64,{base64.b64encode(self.data).decode()}">'

    def html(self) -> str:
        return f"<figure>{self.element}<figcaption>{html.escape(self.caption)}</figcaption></figure>"

    def __repr__(self) -> str:
        return f"{self.alt}\n{self.caption}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {"text/html": f'<div style="overflow-x: auto">{self.html()}</div>', "text/plain": repr(self)}


def card(height: float, parts: Iterable[str], alt: str, width: float = WIDTH) -> bytes:
    """A whole picture on its card."""
    inner = "".join(parts)
    back = box(0.5, 0.5, width - 1, height - 1, PAPER, LINE, radius=6)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(width)} {number(height)}" width="{number(width)}" '
        f'height="{number(height)}" role="img" aria-label="{escaped(alt)}" font-family="{SANS}" font-size="{SIZE}">'
        f"{back}{inner}</svg>"
    ).encode("utf-8", "replace")


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
    for word in printable(words).split():
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
    return html.escape(printable(words).replace("\n", " "))


def number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


# -- who waits for whom --------------------------------------------------------------------------------

COLUMNS, BOX, GAP, HEIGHT, DROP = 3, 220, 84, 92, 46
NOT_SHOWN = "what lies behind it, the evidence does not show"
AT_WORK = re.compile(r"(\d+) pool threads? at work meanwhile: (.*)\.$")
FOLDER = re.compile(r"(?<=\()[^()]*[/\\](?=[^()/\\]+\))")  # of a file named as in "price (/srv/app/rates.py:12)"
KINDS = {
    "lock": "held by",
    "future": "made by",
    "join": "which is",
    "pool": "taken by",
    "loop": "run by",
    "task": "resumed by",
}


@dataclass(frozen=True)
class Node:
    """A box of the graph: a thread, or what lies between two of them. `label` is what the arrow that leaves it says."""

    head: str
    words: str
    label: str
    thread: bool = True
    sure: bool = True


def wait_graph(answer: Diagnosis) -> Picture:
    """Threads, and the locks, pools and loops between them; a ring in thick arrows. Raises HangError where nobody waits."""
    nodes = nodes_of(answer)
    edges = answer.waits_for
    ring = bool(edges) and edges[-1].waits_for == edges[0].thread
    places = around(len(nodes)) if ring else snake(len(nodes))
    height = 2 * 24 + (max(row for _, row in places) + 1) * (HEIGHT + DROP) - DROP
    pairs = list(zip(range(len(nodes)), [*range(1, len(nodes)), 0] if ring else range(1, len(nodes))))
    parts = [joined(nodes[one], places[one], places[other], ring, len(nodes) == 2 and ring) for one, other in pairs]
    parts += [drawn(node, place, ring) for node, place in zip(nodes, places)]
    said = "; ".join(map(str, edges)) or f"{nodes[0].head} waits: {nodes[1].words}"
    names = f"{drawing(edges)}" if edges else nodes[0].head
    alt = f"Graph of waits, {'a ring' if ring else 'a chain'}: {names}. {said}"
    caption = (
        "A ring: follow the thick arrows and you are back where you began. None of these threads goes on by itself."
        if ring
        else "A chain: follow the arrows to whoever has to move first."
        if edges
        else "Where it stands, and what for. The evidence names no single thread that holds it up."
    )
    width = 2 * 24 + (max(column for column, _ in places) + 1) * (BOX + GAP) - GAP
    return Picture(card(height, parts, alt, width), alt, caption)


def nodes_of(answer: Diagnosis) -> list[Node]:
    edges, found = answer.waits_for, []
    for edge in edges:
        found.append(Node(edge.thread, f"stands in {edge.frame}" if edge.frame else "", "waits for"))
        found.append(Node(edge.kind, edge.through, KINDS.get(edge.kind, ""), thread=False, sure=edge.sure))
    if edges and edges[-1].waits_for == edges[0].thread:
        return found
    if edges:
        name = edges[-1].waits_for
        begins = (f"{name} stands", f"{name} moves")
        told = next((item[len(name) :].strip(" .") for item in answer.evidence if item.startswith(begins)), "")
        return [*found, Node(name, told, "")]
    if answer.thread is None or answer.state == "healthy":
        raise HangError("No thread waits for another, so there is no graph.", answer.summary)
    frame = answer.blocking_frame
    where = f"stands in {frame.function} ({frame.file}:{frame.line})" if frame else str(answer.thread.frames[0])
    syscall = answer.kernel_wait.syscall if answer.kernel_wait else None
    wait = (
        "on a CPU" if syscall == "running" else f"the kernel has it in {answer.kernel_wait}" if syscall else NOT_SHOWN
    )
    verb = "busy with" if answer.state == "loop-busy" else "waits for"
    pools = [told for told in map(AT_WORK.match, answer.evidence) if told]
    count = sum(int(told[1]) for told in pools)
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


def joined(node: Node, start: tuple[int, int], end: tuple[int, int], ring: bool, both_ways: bool) -> str:
    """The arrow from a node to the next one, and its label."""
    (x, y), (to_x, to_y) = corner(start), corner(end)
    colour, thick = (VERMILLION, 3.5) if ring else (INK, 1.5)
    if y == to_y:
        right = to_x > x
        level, begin, stop = y + HEIGHT / 2, x + BOX if right else x, to_x if right else to_x + BOX
        label = text((begin + stop) / 2, level - 8, node.label, GAP - 8, FAINT, 11, anchor="middle")
        edge = 2 if right else -2
        return arrow((begin + edge, level), (stop - edge, level), colour, thick, not node.sure) + label
    down = to_y > y
    middle = x + BOX / 2 + (0 if not both_ways else -50 if down else 50)
    begin, stop = (y + HEIGHT + 2, to_y - 2) if down else (y - 2, to_y + HEIGHT + 2)
    label = text(middle + 10, (begin + stop) / 2 + 4, node.label, 90, FAINT, 11)
    return arrow((middle, begin), (middle, stop), colour, thick, not node.sure) + label


def drawn(node: Node, place: tuple[int, int], ring: bool) -> str:
    x, y = corner(place)
    fill, edge = (PAPER, BLUE) if node.thread else ("#fff6d6", GREY)
    shape = box(
        x,
        y,
        BOX,
        HEIGHT,
        fill,
        edge,
        radius=4 if node.thread else 22,
        thick=2.5 if ring else 1.5,
        dashed=not node.sure,
        title=f"{node.head}: {node.words}",
    )
    head = text(x + 14, y + 22, node.head, BOX - 22, bold=True)
    lines = wrapped(FOLDER.sub("", node.words), BOX - 28, 4, 11)
    body = [text(x + 14, y + 39 + 14 * index, words, BOX - 20, size=11) for index, words in enumerate(lines)]
    return "".join([shape, head, *body])
