"""Pictures drawn by hand as SVG, so that a bare Python has them.

There are no ids, no styles and no scripts in them, and the bytes are the same every time. A picture brings its own
white card, so it reads alike on a light and on a dark page. All text in it is untrusted: it is escaped here and
nowhere else.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from hangdebug.errors import printable
from hangdebug.evidence.light import dataclass
from hangdebug.report.text import inert

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
        return f'<img alt="{inert(self.alt)}" src="data:image/png;base64,{base64.b64encode(self.data).decode()}">'

    def html(self) -> str:
        return f"<figure>{self.element}<figcaption>{inert(self.caption)}</figcaption></figure>"

    def __repr__(self) -> str:
        return f"{self.alt}\n{self.caption}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {"text/html": f'<div style="overflow-x: auto">{self.html()}</div>', "text/plain": repr(self)}


def card(height: float, parts: Iterable[str], alt: str, width: float = WIDTH) -> bytes:
    """A whole picture on its card."""
    inner = "".join(parts)
    back = box(0.5, 0.5, width - 1, height - 1, PAPER, LINE, radius=6)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(width)} {number(height)}" '
        f'width="{number(width)}" height="{number(height)}" role="img" aria-label="{escaped(alt)}" '
        f'font-family="{SANS}" font-size="{SIZE}">{back}{inner}</svg>'
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
