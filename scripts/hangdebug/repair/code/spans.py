"""Findings that replace spans of the text: nothing outside of them changes, so that formatting and comments stay.

With what the rules share beside a file: what concerns them in it, the imports that an edit needs, the files around.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import itertools
import os
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Callable, Iterable, Iterator

from hangdebug.repair.code.bindings import FUNCTIONS, walk
from hangdebug.repair.code.file import File, parse
from hangdebug.repair.model import Finding

LINE = re.compile(r"\bline (\d+)")
SKIPPED = frozenset("__pycache__ node_modules site-packages dist-packages".split())
MOST_FILES = 2000  # of a tree that is looked through for what else uses a name


@dataclass(frozen=True)
class Edit:
    """`text[start:end]` becomes `new`; where `start` equals `end`, it is put in."""

    start: int
    end: int
    new: str


@dataclass(frozen=True)
class Found:
    """One place that a rule found. Without edits it is refused, and `message` says why."""

    node: ast.AST
    message: str
    edits: tuple[Edit, ...] = ()
    imports: tuple[str, ...] = ()  # modules that the edits need, such as "asyncio"
    refused: bool = False


@dataclass(frozen=True)
class Need:
    """What stands in a file that concerns a rule: of each group a word in its text, one of these calls and imports.

    None for the calls or the modules: whatever they are. `leaves`: a coroutine has to leave an executor.
    """

    words: tuple[tuple[str, ...], ...]
    calls: frozenset[str] | None = None
    modules: tuple[str, ...] | None = None
    leaves: bool = False

    def met(self, text: str, spot: Spot) -> bool:
        if self.calls is not None and self.calls.isdisjoint(spot.called):
            return False
        if self.modules is not None and spot.modules.isdisjoint(self.modules):
            return False
        if self.leaves and not spot.leaves_executor:
            return False
        return all(any(word in text for word in group) for group in self.words)


@dataclass(frozen=True)
class Spot:
    """The last names of what coroutines call, the first names of what the file imports, and whether a coroutine
    may leave an executor: by a `with`, a `shutdown()` or an ExitStack."""

    called: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    leaves_executor: bool = False


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
    Raises RecursionError and MemoryError.
    """
    try:
        file = parse(source, name)
    except SyntaxError:  # of a newer grammar than that of the Python that runs this, or else libcst says so
        return source, ()
    found = near(file, list(search(file)), line, exact)
    after = apply(source, [edit for item in found for edit in item.edits])
    needed = {module for item in found for module in item.imports}
    if imports is None:
        after = with_imports(after, needed)
    else:
        imports |= needed
    findings = {Finding(rule, name, item.node.lineno, item.message, refused=item.refused) for item in found}
    return after, tuple(sorted(findings, key=lambda item: (item.line, item.message)))


def near(file: File, found: list[Found], line: int | None, exact: bool) -> list[Found]:
    if line is None:
        return found
    holds = lambda node: node.lineno <= line <= node.end_lineno  # noqa: E731
    close = [item for item in found if holds(item.node)]
    around = [node for node in walk(file.tree) if isinstance(node, FUNCTIONS) and holds(node)]
    inner = max(around, key=lambda node: (node.lineno, node.col_offset), default=None)
    return close or [item for item in found if inner and not exact and inner in (item.node, *file.above(item.node))]


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
    if any(isinstance(node, kind) and brings(node, base, member) for node in body):
        return []
    rest = [node for index, node in enumerate(body) if not header(node, index)]
    block = list(itertools.takewhile(lambda node: isinstance(node, (ast.Import, ast.ImportFrom)), rest))
    same = [node for node in block if isinstance(node, kind) and not sorts(node).startswith(".")]
    later = [first_line(node) for node in same if sorts(node) > base]
    behind = [same[-1].end_lineno + 1] if same else []
    lines = [*later, *behind, *map(first_line, rest)]
    line = next((line for line in lines if between(body, line)), None)
    if line is None or line > len(file.starts) - 1:
        return [Edit(len(file.text), len(file.text), f"{file.newline}{statement}{file.newline}")]
    gap = "" if block else 2 * file.newline
    return [Edit(file.starts[line - 1], file.starts[line - 1], f"{statement}{file.newline}{gap}")]


def first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])


def between(body: list[ast.stmt], line: int) -> bool:
    """Whether a line stands between two statements of the module, and behind those that stay first."""
    return all(
        node.end_lineno < line or first_line(node) >= line and not header(node, index)
        for index, node in enumerate(body)
    )


def header(node: ast.stmt, index: int) -> bool:
    """A docstring or `from __future__`, which stay first."""
    future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
    return future or not index and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def brings(node: ast.Import | ast.ImportFrom, base: str, member: str) -> bool:
    names = {item.name for item in node.names if item.asname is None}
    return member in names and node.module == base and not node.level if member else base in names


def sorts(node: ast.Import | ast.ImportFrom) -> str:
    return node.names[0].name if isinstance(node, ast.Import) else "." * node.level + (node.module or "")


# -- the lines that findings name, in the text as it was -----------------------------------------------------


def onto(item: Finding, after: str, before: str) -> Finding:
    """The finding with every line that it names as it is numbered in the text before."""
    if after == before:
        return item
    words = LINE.sub(lambda found: f"line {moved(after, before, int(found[1]))}", item.message)
    return replace(item, line=moved(after, before, item.line), message=words)


def moved(old: str, new: str, line: int) -> int:
    """Where a line of the old text stands in the new one; a line that is gone, where its neighbour does."""
    place = 0
    for start, end, there, until in changes(old, new):
        if start < line <= end:
            return min(there + line - start, max(until, there + 1))
        place = until
    return place or 1


@lru_cache(maxsize=2)
def changes(old: str, new: str) -> list[tuple[int, int, int, int]]:
    """The blocks of lines that are the same, replaced, put in or taken out, in order."""
    matcher = difflib.SequenceMatcher(None, old.split("\n"), new.split("\n"))
    return [block for _, *block in matcher.get_opcodes()]


# -- the files around it -----------------------------------------------------------------------------------


def neighbours(name: str) -> Iterator[tuple[Path, bytes]]:
    """The other Python files of the tree that a file stands in, each with its content; none where it is no file.

    The tree is the folder that holds the outermost package around the file, up to MOST_FILES of it.
    """
    path = Path(name)
    if not path.is_file():
        return
    path = path.resolve()
    root = path.parent
    while (root / "__init__.py").exists():
        root = root.parent
    for other in files_below(root):
        if other != path:
            with contextlib.suppress(OSError):
                yield other, other.read_bytes()


@lru_cache(maxsize=1)
def files_below(root: Path) -> tuple[Path, ...]:
    return tuple(map(Path, itertools.islice(python_files(str(root)), MOST_FILES)))


def python_files(folder: str) -> Iterator[str]:
    """The `*.py` below a folder, without hidden folders, virtual environments and installed packages."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not hidden(here, name))
        for name in sorted(files):
            if name.endswith(".py") and not name.startswith("."):
                yield os.path.normpath(os.path.join(here, name))


def hidden(here: str, name: str) -> bool:
    return name.startswith(".") or name in SKIPPED or os.path.exists(os.path.join(here, name, "pyvenv.cfg"))
