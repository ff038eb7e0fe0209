"""Edits that replace spans of a text: nothing outside of them changes, so that formatting and comments stay."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from hangdebug.repair.code.file import File, parse


@dataclass(frozen=True)
class Edit:
    """`text[start:end]` becomes `new`; where `start` equals `end`, it is put in."""

    start: int
    end: int
    new: str


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text after all edits, which must not overlap; at one place they are made in the order given."""
    parts, at = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        assert at <= edit.start, "two edits overlap"
        parts += [text[at : edit.start], edit.new]
        at = edit.end
    return "".join([*parts, text[at:]])


def with_imports(text: str, modules: Iterable[str]) -> str:
    """The text with each import that it lacks; see `add_import`."""
    for module in sorted(modules):
        text = apply(text, add_import(parse(text), module))
    return text


def add_import(file: File, module: str) -> list[Edit]:
    """`import asyncio` for "asyncio", `from contextlib import x` for "contextlib:x", unless the file has it.

    It goes into the first block of imports, in front of the first of its kind that sorts after it.
    """
    base, _, member = module.partition(":")
    body = file.tree.body
    kind = ast.ImportFrom if member else ast.Import
    statement = f"from {base} import {member}" if member else f"import {base}"
    if any(isinstance(node, kind) and imports_already(node, base, member) for node in body):
        return []
    rest = [node for index, node in enumerate(body) if not stays_first(node, index)]
    block = list(itertools.takewhile(lambda node: isinstance(node, (ast.Import, ast.ImportFrom)), rest))
    same = [node for node in block if isinstance(node, kind) and not sort_key(node).startswith(".")]
    later = [first_line(node) for node in same if sort_key(node) > base]
    behind = [last_line(same[-1]) + 1] if same else []
    lines = [*later, *behind, *map(first_line, rest)]
    line = next((line for line in lines if stands_between(body, line)), None)
    if line is None or line > len(file.starts) - 1:
        return [Edit(len(file.text), len(file.text), f"{file.newline}{statement}{file.newline}")]
    gap = "" if block else 2 * file.newline
    return [Edit(file.starts[line - 1], file.starts[line - 1], f"{statement}{file.newline}{gap}")]


def first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def last_line(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def stands_between(body: list[ast.stmt], line: int) -> bool:
    """Whether a line stands between two statements of the module, and behind those that stay first."""
    return all(
        last_line(node) < line or (first_line(node) >= line and not stays_first(node, index))
        for index, node in enumerate(body)
    )


def stays_first(node: ast.stmt, index: int) -> bool:
    """A docstring or `from __future__`, which stay first."""
    future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
    return future or (not index and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def imports_already(node: ast.Import | ast.ImportFrom, base: str, member: str) -> bool:
    names = {item.name for item in node.names if item.asname is None}
    if isinstance(node, ast.ImportFrom):
        return member in names and node.module == base and not node.level
    return not member and base in names


def sort_key(node: ast.Import | ast.ImportFrom) -> str:
    return node.names[0].name if isinstance(node, ast.Import) else "." * node.level + (node.module or "")
