"""The imports of a file: add what a rewrite needs where the file's own order puts it, drop what nothing uses any more.

import time                           import asyncio        `asyncio` sorts into the standard library's block,
                                                            `time` goes with its last use
import requests                       import requests
"""

from __future__ import annotations

import ast
import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Union

from hangdebug.evidence import light as re
from hangdebug.repair.code.bindings import walk
from hangdebug.repair.code.file import File, parse
from hangdebug.repair.code.project import project_of
from hangdebug.repair.model import Edit, apply

Import = Union[ast.Import, ast.ImportFrom]
IMPORT = (ast.Import, ast.ImportFrom)
KEEP = re.compile(r"#.*\b(noqa|pylint|type:|isort|pyright)")


def with_imports(text: str, modules: Iterable[str], name: str = "") -> str:
    """The text with each import that it lacks; see `add_import`. `name` is the file, whose project orders them."""
    for module in sorted(modules):
        text = apply(text, add_import(parse(text, name), module))
    return text


def add_import(file: File, module: str) -> list[Edit]:
    """`import asyncio` for "asyncio", `from contextlib import x` for "contextlib:x", unless the file has it.

    It goes into the first block of imports, among those of the standard library or among the others, in front of the
    first that sorts after it; where there are none of its section, into one of its own.
    """
    base, _, member = module.partition(":")
    body = file.tree.body
    kind = ast.ImportFrom if member else ast.Import
    statement = f"from {base} import {member}" if member else f"import {base}"
    if any(isinstance(node, kind) and imports_already(node, base, member) for node in body):
        return []
    rest = [node for index, node in enumerate(body) if not stays_first(node, index)]
    block: list[Import] = [
        node for node in itertools.takewhile(lambda node: isinstance(node, IMPORT), rest) if isinstance(node, IMPORT)
    ]
    order, new = project_of(file.name).order, ast.parse(statement).body[0]
    mixed = "no-sections" in order
    peers = [node for node in block if mixed or is_section(node, is_standard(base))]
    if peers and is_standard(base) and peers[0] is not block[0]:  # the file knows no sections
        peers = [node for node in block if isinstance(node, kind)] or block
    later = [node for node in peers if isinstance(new, IMPORT) and rank(node, order) > rank(new, order)]
    if block and not peers:
        first = is_standard(base)
        lines = [first_line(block[0]) if first else last_line(block[-1]) + 1]
        before, behind = (0, 1) if first else (1, 0)
    else:
        lines = [*map(first_line, later), *([last_line(peers[-1]) + 1] if peers else map(first_line, rest))]
        before, behind = 0, 0 if block else 2
    line = next((line for line in lines if stands_between(body, line)), None)
    if line is None or line > len(file.starts) - 1:
        return [Edit(len(file.text), len(file.text), f"{file.newline}{statement}{file.newline}")]
    at = file.starts[line - 1]
    return [Edit(at, at, f"{file.newline * before}{statement}{file.newline}{file.newline * behind}")]


def is_section(node: Import, standard: bool) -> bool:
    """Whether the import belongs to the standard library, or else to other packages by their full names."""
    relative = isinstance(node, ast.ImportFrom) and node.level > 0
    return not relative and is_standard(sort_key(node)) is standard


def is_standard(name: str) -> bool:
    return name.split(".")[0] in standard_modules()


@lru_cache(maxsize=1)
def standard_modules() -> frozenset[str]:
    known = getattr(sys, "stdlib_module_names", None)  # since Python 3.10
    if known:
        return frozenset(known)
    names = {entry.split(".")[0] for entry in os.listdir(os.path.dirname(os.__file__))}
    return frozenset({*names, *sys.builtin_module_names} - {"site-packages"})


def rank(node: Import, order: frozenset[str]) -> tuple[bool, str, bool]:
    """How the import sorts in its section: plain ones first, unless the project says otherwise."""
    is_from = isinstance(node, ast.ImportFrom)
    first = is_from != ("from-first" in order)
    return first and "force-sort-within-sections" not in order, sort_key(node).lower(), is_from


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


# -- what nothing uses any more ------------------------------------------------------------------------------


def without_unused(before: str, after: str, name: str) -> str:
    """The text without the imports whose last use the rewrite of `before` took away."""
    if before == after or Path(name).name == "__init__.py":
        return after
    old, new = parse(before, name), parse(after, name)
    gone = {each for each in old.scopes.reads if each not in new.scopes.reads and not is_named(new, each)}
    return apply(after, [edit for node in walk(new.tree) if isinstance(node, IMPORT) for edit in drop(new, node, gone)])


def is_named(file: File, name: str) -> bool:
    """Whether a string of the file names it: an entry of `__all__`, an annotation in quotes."""
    word = re.compile(rf"\b{re.escape(name)}\b")
    hidden = {part for node in walk(file.tree) for part in annotation_of(node)}
    return any(
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and (node.value == name or (node in hidden and word.search(node.value)))
        for node in walk(file.tree)
    )


def annotation_of(node: ast.AST) -> Iterator[ast.AST]:
    for field in ("annotation", "returns"):
        said = getattr(node, field, None)
        if isinstance(said, ast.AST):
            yield from walk(said)


def drop(file: File, node: Import, gone: set[str]) -> list[Edit]:
    """The edits that take the names from the import, none where its lines hold anything else."""
    left = [item for item in node.names if (item.asname or item.name.split(".")[0]) not in gone]
    start, end = file.line_start(file.start(node)), file.line_end(file.end(node))
    rows = file.text[start:end]
    parent = file.parent(node)
    if len(left) == len(node.names) or KEEP.search(rows) or node not in getattr(parent, "body", ()):
        return []
    alone = rows.split("#")[0].strip() == file.source(node)
    if left:
        return shorten(file, node, left) if alone else []
    if not alone or len(getattr(parent, "body", ())) == 1 or isinstance(parent, (ast.If, ast.Try)):
        return []
    behind = min(end + len(file.newline), len(file.text))
    above = file.text[:start].rstrip(" \t").endswith(file.newline * 2) or not file.text[:start].strip()
    while above and file.text.startswith(file.newline, behind):  # it was the only one of its block
        behind += len(file.newline)
        above = not file.text[:start].strip()
    return [Edit(start, behind, "")]


def shorten(file: File, node: Import, left: list[ast.alias]) -> list[Edit]:
    """The same import of fewer names: on one line, or without the lines of the others."""
    kept = [f"{item.name} as {item.asname}" if item.asname else item.name for item in left]
    text = file.source(node)
    if "\n" not in text and "\r" not in text:
        head = text[: text.index("import") + len("import")]
        opened = "(" in text
        return [Edit(file.start(node), file.end(node), f"{head} {'(' * opened}{', '.join(kept)}{')' * opened}")]
    rows = text.splitlines(keepends=True)
    names = {f"{item.name} as {item.asname}" if item.asname else item.name for item in node.names} - set(kept)
    plain = [row for row in rows if row.split("#")[0].strip().rstrip(",").strip() not in names]
    return [Edit(file.start(node), file.end(node), "".join(plain))] if len(rows) - len(plain) == len(names) else []
