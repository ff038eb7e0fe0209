"""What a rule finds in a file, with the edits that mend it, and what becomes of the file then."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Callable

from hangdebug.repair.code.bindings import FUNCTIONS
from hangdebug.repair.code.edits import Edit, apply, with_imports
from hangdebug.repair.code.file import File, parse
from hangdebug.repair.model import Finding


@dataclass(frozen=True)
class Found:
    """One place that a rule found. Without edits it is refused, and `message` says why."""

    node: ast.AST
    message: str
    edits: tuple[Edit, ...] = ()
    imports: tuple[str, ...] = ()  # modules that the edits need, such as "asyncio"
    refused: bool = False
    line: int = 0  # that the finding names, where it is not the first one of the node


Search = Callable[[File], Iterable[Found]]


def rewrite(
    rule: str,
    search: Search,
    source: str,
    name: str,
    line: int | None = None,
    exact: bool = False,
    imports: set[str] | None = None,
) -> tuple[str, tuple[Finding, ...]]:
    """The source with every edit made that the search found, and a finding for each place.

    `line` limits it to what holds that line, or else, if not `exact`, to the function around it. The imports that
    are needed are added, or given to `imports`, so that until `with_imports` every line keeps its number.
    Raises SyntaxError, RecursionError and MemoryError.
    """
    file = parse(source, name)
    found = near_line(file, list(search(file)), line, exact)
    after = apply(source, [edit for item in found for edit in item.edits])
    needed = {module for item in found for module in item.imports}
    if imports is None:
        after = with_imports(after, needed)
    else:
        imports |= needed
    findings = {Finding(rule, name, item.line or file.line(item.node), item.message, item.refused) for item in found}
    return after, tuple(sorted(findings, key=lambda item: (item.line, item.message)))


def near_line(file: File, found: list[Found], line: int | None, exact: bool) -> list[Found]:
    if line is None:
        return found
    close = [item for item in found if file.on_line(item.node, line)]
    inner = file.innermost(FUNCTIONS, line)
    return close or [item for item in found if inner and not exact and inner in (item.node, *file.above(item.node))]
