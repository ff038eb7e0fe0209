"""Every place that makes a verdict is reached by evidence on file: a bundle or a dump, replayed here.

A place is a call that makes a verdict, and each mention of a level or of a limit of certainty in a function of answer/:
a branch that makes a verdict surer or less sure is a place as well. The modules of answer/ are loaded once more for
this, so that each place notes when it is reached. record_bundles.py says how to record what reaches a new one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

import hangdebug
import record_bundles
import test_pastes
from hangdebug.answer import certainty, states
from hangdebug.evidence.bundle import read_bundle
from hangdebug.evidence.model import Evidence
from hangdebug.evidence.paste import read

HERE = Path(__file__).parent
ROOM = "hangdebug.answer"
FOLDER = HERE.parent / "scripts" / "hangdebug" / "answer"
TABLES = ("certainty.py", "model.py")  # they define the levels and the nouns, and decide nothing
MAKES = ("Verdict", "Weighed", "WorkersWeighed", "verdict", "stuck", "going_on", "watching")
FIGURES = {name for name, one in vars(certainty).items() if isinstance(one, (certainty.Level, certainty.Limit))}
NOTE, OWED = "note_that_this_was_reached", "OWED"
DUMPS = sorted(one for one in (HERE / "dumps").rglob("py*") if ".truth." not in one.name)
PASTED = sorted((HERE / "pasted").glob("*.txt"))


@dataclass
class Reached:
    """Places as (file:line, what stands there): all of them, those that were reached, and the rules that spoke."""

    known: set[tuple[str, str]] = field(default_factory=set)
    reached: set[tuple[str, str]] = field(default_factory=set)
    rules: set[str] = field(default_factory=set)


class Marked(ast.NodeTransformer):
    """Wraps each place within a function in a call that notes it."""

    def __init__(self, file: str, known: set[tuple[str, str]]) -> None:
        self.file, self.known, self.depth = file, known, 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.depth += 1
        node.body = [self.visit(one) for one in node.body]
        self.depth -= 1
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        made = isinstance(node.func, ast.Name) and node.func.id in MAKES
        return self.noted(node, f"{ast.unparse(node.func)}()") if made else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self.noted(node, node.id) if node.id in FIGURES and isinstance(node.ctx, ast.Load) else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """A level that is looked up: each row of that table is a place."""
        if isinstance(node.value, ast.Name) and node.value.id == OWED:
            node.slice = self.noted(node.slice, "", list(certainty.OWED))
            return node
        return self.generic_visit(node)

    def noted(self, node: ast.expr, what: str, values: Sequence[str] = ()) -> ast.expr:
        if not self.depth:
            return node
        where = f"{self.file}:{node.lineno}"
        self.known.update((where, f"{OWED}[{value!r}]") for value in values) if values else self.known.add(
            (where, what)
        )
        call = ast.Call(ast.Name(NOTE, ast.Load()), [ast.Constant(where), ast.Constant(what), node], [])
        return ast.fix_missing_locations(ast.copy_location(call, node))


class Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, seen: Reached) -> None:
        super().__init__(name, path)
        self.seen = seen

    def get_code(self, fullname: str) -> CodeType:
        file = Path(self.path)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if file.name not in TABLES:
            tree = Marked(file.relative_to(FOLDER).as_posix(), self.seen.known).visit(tree)
        return compile(tree, self.path, "exec")

    def exec_module(self, module: ModuleType) -> None:
        def note(where: str, what: str, value: Any) -> Any:
            self.seen.reached.add((where, what or f"{OWED}[{value!r}]"))
            return value

        setattr(module, NOTE, note)
        super().exec_module(module)


@dataclass(frozen=True)
class Finder:
    seen: Reached

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if inside(name) else None
        if spec is not None and spec.origin is not None:
            spec.loader = Loader(name, spec.origin, self.seen)
        return spec


def inside(name: str) -> bool:
    return name == ROOM or name.startswith(f"{ROOM}.")


@contextmanager
def noting(seen: Reached) -> Iterator[ModuleType]:
    """answer/diagnose.py, loaded anew with all of its room, so that places are noted; the old room comes back after."""
    kept = {name: module for name, module in sys.modules.items() if inside(name)}
    finder = Finder(seen)
    for name in kept:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield import_module(f"{ROOM}.diagnose")
    finally:
        sys.meta_path.remove(finder)
        for name in list(filter(inside, sys.modules)):
            del sys.modules[name]
        sys.modules.update(kept)
        hangdebug.answer = kept[ROOM]


@cache
def replayed() -> Reached:
    """What the evidence on file reaches: no more of it is replayed once that is all."""
    seen = Reached()
    with noting(seen) as engine:
        for evidence in on_file():
            found = evidence if isinstance(evidence, tuple) else engine.evidence_of(read(evidence))
            seen.rules.update(engine.diagnose(one).rule for one in found)
            if seen.known <= seen.reached and len(seen.rules) == len(states.RULES):
                break
    return seen


def on_file() -> Iterator[tuple[Evidence, ...] | str]:
    """Pastes, bundles and dumps; those that are read in no time come first."""
    yield from (case.text for case in test_pastes.CASES)
    for file in [shot.archive for shot in record_bundles.every().values()] + PASTED + DUMPS:
        bundle = file.name.endswith(record_bundles.SUFFIX)
        yield read_bundle(file) if bundle else file.read_text(encoding="utf-8")


def test_every_place_that_makes_a_verdict_is_reached(capsys: pytest.CaptureFixture[str]) -> None:
    seen = replayed()
    missed = sorted(seen.known - seen.reached)
    with capsys.disabled():
        print(f"\n{len(seen.known) - len(missed)} of {len(seen.known)} places reached")
    assert not missed, "\n".join(f"answer/{where}: no evidence on file reaches {what}" for where, what in missed)


def test_every_rule_decides_for_some_evidence() -> None:
    assert {rule.name for _, rule in states.RULES} == replayed().rules


def test_a_place_that_nothing_reaches_is_found() -> None:
    known: set[tuple[str, str]] = set()
    text = "LEVELS = [PROVED]\ndef rule(scene):\n    return Verdict('a', PROVED if scene else OPEN)\n"
    tree = Marked("rule.py", known).visit(ast.parse(text))
    reached = set()

    def note(where: str, what: str, value: Any) -> Any:
        reached.add((where, what))
        return value

    names = {"PROVED": 1, "OPEN": 2, "Verdict": lambda *given: given, NOTE: note}
    exec(compile(tree, "rule.py", "exec"), names)
    assert names["rule"]([]) == ("a", 2)
    assert known - reached == {("rule.py:3", "PROVED")} and len(known) == 3
