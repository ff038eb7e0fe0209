"""Which rules a file concerns, found in one walk before its scopes are read.

What a rule finds is called in the frame of a coroutine, and named in the text. An import may give it another name;
that is looked up here. So a rule that is left out finds nothing.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from hangdebug.repair.code.bindings import FUNCTIONS

BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # the fields that hold statements
DEFINITIONS = frozenset((*FUNCTIONS, ast.ClassDef)) - {ast.Lambda}
LEAVES = frozenset((str, int, type(None), bool, ast.Name, ast.Constant, ast.Load, ast.Store, ast.Del))


@dataclass(frozen=True)
class Contents:
    """The last names of what coroutines call, and the first names of what the file imports."""

    called: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Need:
    """What stands in a file that concerns a rule: of each group a word in its text, one of these calls and imports.

    None for the calls or the modules: whatever they are.
    """

    words: tuple[tuple[str, ...], ...]
    calls: frozenset[str] | None = None
    modules: tuple[str, ...] | None = None

    def met(self, text: str, contents: Contents) -> bool:
        called = self.calls is None or not self.calls.isdisjoint(contents.called)
        imported = self.modules is None or not contents.modules.isdisjoint(self.modules)
        return called and imported and all(any(word in text for word in group) for group in self.words)


def contents_of(tree: ast.Module) -> Contents:
    """Outside of coroutines only statements are walked: no expression there can hold a coroutine."""
    called, modules, renamed = set(), set(), {}
    todo: list[tuple[ast.AST, bool]] = [(tree, False)]
    while todo:
        node, running = todo.pop()
        kind = type(node)
        if isinstance(node, ast.Call):
            called.add(node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", ""))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            whole = [node.module or ""] if isinstance(node, ast.ImportFrom) else [item.name for item in node.names]
            modules |= {name.split(".")[0] for name in whole}
            renamed.update({item.asname: item.name.split(".")[-1] for item in node.names if item.asname})
        inside = (kind is ast.AsyncFunctionDef) if kind in DEFINITIONS else running
        for name in ("args",) if kind is ast.Lambda else node._fields if running else BLOCKS:
            value: Any = getattr(node, name, None)
            within = inside if name == "body" else running
            if value.__class__ is list:
                todo += [(child, within) for child in value if child.__class__ not in LEAVES]
            elif value.__class__ not in LEAVES:
                todo.append((value, within))
    return Contents(frozenset(called | {old for new, old in renamed.items() if new in called}), frozenset(modules))
