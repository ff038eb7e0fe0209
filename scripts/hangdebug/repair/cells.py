"""The code of a notebook, as one text: what a cell imports, the next ones use.

A finding in it is told by its cell and the line there, and is never rewritten: a notebook is JSON, and its cells may
have been run in another order than they stand in.
"""

from __future__ import annotations

import ast
import bisect
import json
import re
import warnings
from dataclasses import replace

from hangdebug.errors import BadSource
from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.findings import LINE
from hangdebug.repair.model import Finding

BY_HAND = "; cells of a notebook are not rewritten: do it by hand"
MAGIC = re.compile(r"^(\s*)(?:[%!?]|[\w.]+\?\s*$).*$", re.M)  # a line for IPython: `%time f()`, `!ls`, `f?`
ASSIGNED = re.compile(r"^(\s*[\w, ]+=\s*)[%!].*$", re.M)  # files = !ls
WHOLE = re.compile(r"\s*%%(?!time\b|timeit\b|capture\b|prun\b)")  # a cell in another language


@dataclass(frozen=True)
class Code:
    """`text` holds the cells one after the other; `starts` the first line of each there, `numbers` its number."""

    text: str
    starts: list[int]
    numbers: list[int]

    def place(self, line: int) -> tuple[int, int]:
        """The cell that holds the line, from 1, and the line in that cell."""
        at = max(0, bisect.bisect_right(self.starts, line) - 1)
        return self.numbers[at], line - self.starts[at] + 1

    def in_cell(self, item: Finding) -> Finding:
        cell, line = self.place(item.line)

        def moved(found: re.Match[str]) -> str:
            other, there = self.place(int(found[1]))
            return f"line {there}" + f" of cell {other}" * (other != cell)

        words = LINE.sub(moved, item.message) + BY_HAND * (not item.refused)
        return replace(item, cell=cell, line=line, message=words, refused=True, stays="")


def code_of(name: str, text: str) -> Code:
    """The cells that hold Python. Raises BadSource for what is no notebook of version 4."""
    try:
        cells = json.loads(text)["cells"]
        sources = [(at, "".join(cell["source"])) for at, cell in enumerate(cells, 1) if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what, why = f"{name} is no notebook that can be read.", "It is not JSON with `cells`, as version 4 has them."
        raise BadSource(what, why, f"jupyter nbconvert --to notebook {name}") from error
    parts, starts, numbers, line = [], [], [], 1
    for number, source in sources:
        plain = python_of(source)
        if plain:
            parts.append(plain.rstrip("\n") + "\n")
            starts.append(line)
            numbers.append(number)
            line += parts[-1].count("\n")
    return Code("".join(parts), starts, numbers)


def python_of(source: str) -> str:
    """The cell with its lines for IPython made empty, "" where what is left is no Python."""
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    if WHOLE.match(source):
        return ""
    for plain in (source, ASSIGNED.sub(r"\1None", MAGIC.sub(r"\1pass", source))):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(plain)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        return plain
    return ""
