"""What a source line calls. A C function has no frame: the user's own line is all that names it."""

from __future__ import annotations

import re
from typing import Mapping

from hangdebug.model import Frame

NOISE = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|\#.*$""")
CALLED = re.compile(r"(?<![\w.])([A-Za-z_][\w.]*(?:\([^()]*\)\.[A-Za-z_][\w.]*)*)\s*\(")
WITH = re.compile(r"^\s*with\s+(.+)$")
DEF = re.compile(r"^(?P<indent>\s*)(?P<kind>async def|def|class)\s")
NOT_CALLS = frozenset("if elif while for and or not in is return yield await lambda assert with print def".split())

Sources = Mapping[str, Mapping[int, str]]


def line_at(sources: Sources, frame: Frame) -> str | None:
    """The frame's line as it stands in its file, without indentation, or None where the file is unknown."""
    if frame.line is None:
        return None
    text = sources.get(frame.file, {}).get(frame.line)
    return text.strip() or None if text is not None else None


def statement_at(sources: Sources, frame: Frame) -> str:
    """The frame's line and those after it that belong to the same brackets, on one line; "" if unknown."""
    lines = sources.get(frame.file, {})
    number = frame.line or 0
    text = ""
    for offset in range(8):
        more = lines.get(number + offset)
        if more is None:
            break
        text += NOISE.sub(lambda found: '""' if found[1] else "", more).strip() + " "
        if text.count("(") + text.count("[") + text.count("{") <= text.count(")") + text.count("]") + text.count("}"):
            break
    return text.strip()


def called(statement: str) -> frozenset[str]:
    """The dotted names that a statement calls: {"time.sleep"} for `x = time.sleep(2)`."""
    return frozenset(name for name in CALLED.findall(statement) if name not in NOT_CALLS)


def entered(statement: str) -> str | None:
    """What a `with` statement enters when it calls nothing: "self._lock" for `with self._lock:`."""
    found = WITH.match(statement)
    if not found or "(" in found[1]:
        return None
    return found[1].split(" as ")[0].rstrip(": ").strip()


def in_coroutine(sources: Sources, frame: Frame) -> bool | None:
    """Whether the frame's function is an `async def`; None where the source does not show it."""
    lines = sources.get(frame.file, {})
    if frame.line is None or frame.line not in lines:
        return None
    depth = indent(lines[frame.line])
    for number in range(frame.line, 0, -1):
        text = lines.get(number)
        if text is None:
            return None
        found = DEF.match(text)
        if found and (len(found["indent"]) < depth or number == frame.line) and found["kind"] != "class":
            return found["kind"] == "async def"
    return None


def indent(text: str) -> int:
    return len(text) - len(text.lstrip())
