"""A file as Python's own parser sees it: what runs a node, what a name stands for, where it stands.

    from time import sleep as nap         `nap` is "time.sleep", wherever that name is not bound again
    jobs = queue.Queue()                  `jobs` is made by "queue.Queue", if nothing else is assigned to it

What has two meanings has none here, and no rule touches it.
"""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Iterator

from hangdebug.repair.code.bindings import COMPREHENSIONS, Binding, Scope, Scopes, read_scopes, walk

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
        row = self.text[start : start + column]
        if not row.isascii():
            row = self.text[start : start + column].encode()[:column].decode(errors="ignore")
        return start + len(row)

    def start(self, node: ast.AST) -> int:
        return self.offset(node.lineno, node.col_offset)

    def end(self, node: ast.AST) -> int:
        return self.offset(node.end_lineno, node.end_col_offset)

    def source(self, node: ast.AST) -> str:
        return self.text[self.start(node) : self.end(node)]

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

    def qualified(self, node: ast.AST, depth: int = 4) -> str:
        """The dotted name that imports give the expression ("builtins.open" for a builtin), or "".

        `depth` is how many second names are followed, such as `nap` of `nap = time.sleep`.
        """
        if isinstance(node, ast.Attribute):
            base = self.qualified(node.value, depth)
            return f"{base}.{node.attr}" if base and not base.startswith("builtins.") else ""
        if not isinstance(node, ast.Name):
            return ""
        scope, found = self.lookup(node, node.id)
        if scope is None:
            return f"builtins.{node.id}" if hasattr(builtins, node.id) and not self.scopes.star else ""
        names = {
            item.qualified or (self.qualified(item.value, depth - 1) if depth and item.value else "")
            for item in found
            if not empty(item)
        }
        return names.pop() if len(names) == 1 else ""

    def values(self, node: ast.AST) -> list[ast.expr | None]:
        """Everything assigned to a name, or to an attribute of `self` in its class; None where no plain value is."""
        if isinstance(node, ast.Name):
            return [item.value for item in self.lookup(node, node.id)[1] if not empty(item)]
        home = self.home(node)
        if not isinstance(node, ast.Attribute) or dotted(node.value) not in ("self", "cls") or home is None:
            return []
        written = [
            Binding(target, "", value)
            for target, value in self.scopes.attributes.get(node.attr, ())
            if dotted(target) == dotted(node) and self.home(target) is home
        ]
        body = self.scopes.opened[home].names.get(node.attr, [])
        return [self.kept(item) for item in (*written, *body) if not empty(item)]

    def kept(self, item: Binding) -> ast.expr | None:
        """The value that is bound; of a `cached_property` the one that it returns."""
        cached = any(dotted(each).endswith("cached_property") for each in getattr(item.node, "decorator_list", ()))
        given = [each.value for each in walk(item.node) if isinstance(each, ast.Return)] if cached else [item.value]
        return given[0] if len(given) == 1 else None

    def maker(self, node: ast.AST) -> str:
        """What made the expression, as "queue.Queue": the one call that is all its values, or ""."""
        values = [node] if isinstance(node, ast.Call) else self.elements(node) or self.values(node)
        makers = {self.made(value) for value in values}
        return makers.pop() if len(makers) == 1 else ""

    def made(self, value: ast.AST | None) -> str:
        """The function that a call calls; that which makes the field of a dataclass for each object of it."""
        if not isinstance(value, ast.Call):
            return ""
        factory = next((each.value for each in value.keywords if each.arg == "default_factory"), None)
        if factory is None or self.qualified(value.func) != "dataclasses.field":
            return self.qualified(value.func)
        return self.made(factory.body) if isinstance(factory, ast.Lambda) else self.qualified(factory)

    def elements(self, node: ast.AST) -> list[ast.expr | None]:
        """What a name is in turn, as the variable of a loop over a list that the file fills."""
        found = self.lookup(node, node.id)[1] if isinstance(node, ast.Name) else []
        loops = [self.parent(item.node) for item in found if item.node in self.scopes.parents]
        if not loops or not all(
            isinstance(loop, (ast.For, ast.comprehension))
            and isinstance(loop.iter, (ast.Name, ast.Attribute))
            and item.node is loop.target
            for loop, item in zip(loops, found)
        ):
            return []
        return [each for loop in loops for each in self.filled(loop.iter)]

    def filled(self, node: ast.expr) -> list[ast.expr | None]:
        """Each thing that the list is made of, or gets by `append`."""
        given = [
            self.parent(self.parent(use))
            for use in self.uses(node)
            if getattr(self.parent(use), "attr", "") == "append"
        ]
        parts: list = [each.args[0] for each in given if isinstance(each, ast.Call) and len(each.args) == 1]
        for value in self.values(node):
            written = isinstance(value, (ast.List, ast.Tuple, ast.Set))
            parts += value.elts if written else [getattr(value, "elt", None)]
        return [value for part in parts for value in (self.values(part) if isinstance(part, ast.Name) else [part])]

    def private(self, node: ast.expr) -> bool:
        """Whether the object is made in the function that uses it, and only used there."""
        if isinstance(node, ast.Call):
            return True
        frame = self.frame(node)
        local = isinstance(node, ast.Name) and self.lookup(node, node.id)[0] is self.scopes.opened.get(frame)
        return local and all(
            isinstance(self.parent(use), (ast.Attribute, ast.withitem)) and self.frame(use) is frame
            for use in self.uses(node)
        )

    def home(self, node: ast.AST) -> ast.ClassDef | None:
        return next((up for up in self.above(node) if isinstance(up, ast.ClassDef)), None)

    def uses(self, node: ast.AST) -> list[ast.expr]:
        """The places that read the same variable, or the same attribute of `self` in its class, in order."""
        if isinstance(node, ast.Name):
            scope = self.lookup(node, node.id)[0]
            found = [each for each in self.scopes.reads.get(node.id, ()) if self.lookup(each, each.id)[0] is scope]
        else:
            found = [
                each
                for each in walk(self.home(node) or self.tree)
                if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Load) and dotted(each) == dotted(node)
            ]
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
