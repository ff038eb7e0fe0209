"""A file as Python's own parser sees it: what runs a node, what a name stands for, where it stands.

    from time import sleep as nap         `nap` is "time.sleep", wherever that name is not bound again
    jobs = queue.Queue()                  `jobs` is made by "queue.Queue", if nothing else is assigned to it

What has two meanings has none here, and no rule touches it.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import itertools
import os
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Iterator

from hangdebug.fixes._bindings import COMPREHENSIONS, Binding, Scope, Scopes, read_scopes, walk

SKIPPED = frozenset("__pycache__ node_modules site-packages dist-packages".split())
MOST_FILES = 2000  # of a tree that is looked through for what else uses a name
LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")


@dataclass(eq=False)
class File:
    """`text` parsed. Raises SyntaxError and RecursionError where it is made from text that has no tree."""

    text: str
    tree: ast.Module
    scopes: Scopes
    starts: list
    name: str = ""

    # -- where it stands -----------------------------------------------------------------------------

    def offset(self, line: int, column: int) -> int:
        """The index in `text` of a position as `ast` gives it: the line from 1, the column in UTF-8 bytes."""
        start = self.starts[line - 1]
        row = self.text[start:start + column]
        if not row.isascii():
            row = self.text[start:start + column].encode()[:column].decode(errors="ignore")
        return start + len(row)

    def start(self, node: ast.AST) -> int:
        return self.offset(node.lineno, node.col_offset)

    def end(self, node: ast.AST) -> int:
        return self.offset(node.end_lineno, node.end_col_offset)

    def source(self, node: ast.AST) -> str:
        return self.text[self.start(node):self.end(node)]

    def short(self, node: ast.AST) -> str:
        """The source on one line, for a message."""
        return " ".join(self.source(node).split())

    @property
    def newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    @property
    def calls(self) -> list:
        """Every call, in source order."""
        return self.scopes.calls

    # -- what runs it --------------------------------------------------------------------------------

    def parent(self, node: ast.AST) -> ast.AST:
        return self.scopes.parents[node]

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        while node in self.scopes.parents:
            node = self.scopes.parents[node]
            yield node

    def frame(self, node: ast.AST) -> ast.AST:
        """The function, lambda, class or module that runs the node."""
        scope = self.scopes.of[node]
        while isinstance(scope.node, COMPREHENSIONS):
            scope = scope.outer
        return scope.node

    def coroutine(self, node: ast.AST) -> ast.AsyncFunctionDef | None:
        """The `async def` whose frame runs the node, None where anything else does."""
        found = self.frame(node)
        return found if isinstance(found, ast.AsyncFunctionDef) else None

    def run_by(self, frame: ast.AST) -> Iterator[ast.AST]:
        """The nodes that this frame runs itself, those of functions nested in it left out."""
        return (node for node in walk(frame) if node is not frame and self.frame(node) is frame)

    def statement(self, node: ast.AST) -> ast.stmt:
        return next(each for each in (node, *self.above(node)) if isinstance(each, ast.stmt))

    # -- what it stands for --------------------------------------------------------------------------

    def lookup(self, node: ast.AST, name: str) -> tuple[Scope | None, list[Binding]]:
        """The scope that binds the name where it stands at the node, and every binding there."""
        scope, first = self.scopes.of[node], True
        while scope is not None:
            if scope.told.get(name) is ast.Global:
                scope = self.scopes.module
            visible = first or not isinstance(scope.node, ast.ClassDef)
            if visible and name in scope.names and name not in scope.told:
                return scope, [*scope.names[name], *self.foreign(scope, name)]
            first, scope = first and isinstance(scope.node, COMPREHENSIONS), scope.outer
        return None, []

    def foreign(self, home: Scope, name: str) -> list[Binding]:
        """What functions bind that declare the name global or nonlocal."""
        others = {id(scope): scope for scope in self.scopes.telling if name in scope.told}.values()
        return [item for scope in others for item in scope.names.get(name, ())]

    def qualified(self, node: ast.AST) -> str:
        """The dotted name that imports give the expression ("builtins.open" for a builtin), or ""."""
        if isinstance(node, ast.Attribute):
            base = self.qualified(node.value)
            return f"{base}.{node.attr}" if base and not base.startswith("builtins.") else ""
        if not isinstance(node, ast.Name):
            return ""
        scope, found = self.lookup(node, node.id)
        if scope is None:
            return f"builtins.{node.id}" if hasattr(builtins, node.id) and not self.scopes.star else ""
        names = {item.qualified for item in found if not empty(item)}
        return names.pop() if len(names) == 1 else ""

    def values(self, node: ast.AST) -> list[ast.expr | None]:
        """Everything assigned to a name, or to an attribute of `self` in its class; None where no plain value is."""
        if isinstance(node, ast.Name):
            return [item.value for item in self.lookup(node, node.id)[1] if not empty(item)]
        home = self.home(node)
        if not isinstance(node, ast.Attribute) or dotted(node.value) not in ("self", "cls") or home is None:
            return []
        written = [Binding(target, "", value) for target, value in self.scopes.attributes.get(node.attr, ())
                   if dotted(target) == dotted(node) and self.home(target) is home]
        body = self.scopes.opened[home].names.get(node.attr, [])
        return [item.value for item in (*written, *body) if not empty(item)]

    def maker(self, node: ast.AST) -> str:
        """What made the expression, as "queue.Queue": the one call that is all its values, or ""."""
        values = [node] if isinstance(node, ast.Call) else self.values(node)
        makers = {self.qualified(value.func) if isinstance(value, ast.Call) else "" for value in values}
        return makers.pop() if len(makers) == 1 else ""

    def home(self, node: ast.AST) -> ast.ClassDef | None:
        return next((up for up in self.above(node) if isinstance(up, ast.ClassDef)), None)

    def uses(self, node: ast.AST) -> list[ast.expr]:
        """The places that read the same variable, or the same attribute of `self` in its class, in order."""
        if isinstance(node, ast.Name):
            scope = self.lookup(node, node.id)[0]
            found = [each for each in self.scopes.reads.get(node.id, ()) if self.lookup(each, each.id)[0] is scope]
        else:
            found = [each for each in walk(self.home(node) or self.tree)
                     if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Load)
                     and dotted(each) == dotted(node)]
        return sorted(found, key=lambda each: (each.lineno, each.col_offset))


@lru_cache(maxsize=1)  # one rule after the other reads the same text
def parse(text: str, name: str = "") -> File:
    """Raises SyntaxError, and RecursionError or MemoryError for an expression that nests too deeply."""
    tree = tree_of(text)
    starts = [0]
    for row in LINES.findall(text):
        starts.append(starts[-1] + len(row))
    return File(text, tree, read_scopes(tree), starts, name)


@lru_cache(maxsize=1)
def tree_of(text: str) -> ast.Module:
    with warnings.catch_warnings():  # of escapes such as "\\d", which are not our business
        warnings.simplefilter("ignore")
        return ast.parse(text)


def empty(item: Binding) -> bool:
    """Whether it binds None before there is a value, or only declares a type."""
    return isinstance(item.value, ast.Constant) and item.value.value is None


def dotted(node: ast.AST) -> str:
    """`app.state.pool` for such an expression, "" for any other."""
    if isinstance(node, ast.Name):
        return node.id
    base = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{base}.{node.attr}" if base else ""


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
