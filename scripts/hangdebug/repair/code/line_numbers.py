"""The lines that findings name, in the text as it was before other rules changed it."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from functools import lru_cache

from hangdebug.repair.model import Finding

LINE = re.compile(r"\bline (\d+)")
ENDING = re.compile(r"\r\n|\r|\n")


def split_lines(text: str) -> list[str]:
    """The lines of a source as Python counts them: a form feed ends none."""
    return ENDING.split(text)


def renumber(item: Finding, after: str, before: str) -> Finding:
    """The finding with every line that it names as it is numbered in the text before."""
    if after == before:
        return item
    words = LINE.sub(lambda found: f"line {line_moved(after, before, int(found[1]))}", item.message)
    return replace(item, line=line_moved(after, before, item.line), message=words)


def line_moved(old: str, new: str, line: int) -> int:
    """Where a line of the old text stands in the new one; a line that is gone, where its neighbour does."""
    place = 0
    for start, end, there, until in changed_blocks(old, new):
        if start < line <= end:
            return min(there + line - start, max(until, there + 1))
        place = until
    return place or 1


@lru_cache(maxsize=2)
def changed_blocks(old: str, new: str) -> list[tuple[int, int, int, int]]:
    """The blocks of lines that are the same, replaced, put in or taken out, in order."""
    matcher = difflib.SequenceMatcher(None, split_lines(old), split_lines(new))
    return [block[1:] for block in matcher.get_opcodes()]
