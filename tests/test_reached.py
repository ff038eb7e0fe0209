"""Every place that makes a verdict is reached by evidence on file: a bundle or a dump, replayed.

A place is a call that makes a Verdict or a Weighed, and each mention of a level or a limit of certainty in a function of
answer/: a branch that makes the same verdict surer or less sure is a place too. The modules of answer/ are imported once
more, each place told to note that it was reached.
"""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import sys
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Iterator

from hangdebug.answer import certainty
from hangdebug.errors import HangError
from hangdebug.evidence.bundle import read_bundle
from hangdebug.evidence.paste import read

HERE = Path(__file__).parent
ROOM = "hangdebug.answer"
MAKES = {"Verdict", "Weighed", "verdict", "stuck", "going_on", "watching"}
FIGURES = {name for name, value in vars(certainty).items() if isinstance(value, (certainty.Level, certainty.Limit))}
ELSEWHERE = {"certainty.py", "model.py"}  # the table itself, and the nouns

Place = tuple[str, int, str]  # a file of answer/, a line, and what stands there


class Marked(ast.NodeTransformer):
    """Wraps each place of a module's functions in a call that notes it."""

    def __init__(self, file: str) -> None:
        self.file, self.depth, self.places = file, 0, set()  # type: ignore[var-annotated]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.depth += 1
        node.body = [self.visit(one) for one in node.body]
        self.depth -= 1
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        return self.noted(node, node.func.id) if isinstance(node.func, ast.Name) and node.func.id in MAKES else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self.noted(node, node.id) if node.id in FIGURES and isinstance(node.ctx, ast.Load) else node

    def noted(self, node: ast.expr, what: str) -> ast.AST:
        if not self.depth:
            return node
        place = (self.file, node.lineno, what)
        self.places.add(place)
        call = ast.Call(ast.Name("__note__", ast.Load()), [ast.Constant(place), node], [])
        return ast.fix_missing_locations(ast.copy_location(call, node))


class Loader(importlib.machinery.SourceFileLoader):
    places: set[Place] = set()
    reached: set[Place] = set()

    def source_to_code(self, data, path, *, _optimization=-1):  # type: ignore[no-untyped-def,override]
        file = Path(path).relative_to(HERE.parent / "scripts" / "hangdebug" / "answer")
        tree = ast.parse(data)
        if file.name not in ELSEWHERE:
            marked = Marked(file.as_posix())
            tree = marked.visit(tree)
            self.places |= marked.places
        return compile(tree, path, "exec")

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        def note(place, value):
            self.reached.add(place)
            return value
        module.__dict__["__note__"] = note
        super().exec_module(module)


class Finder:
    def find_spec(self, name, path=None, target=None):
        if not name.startswith(ROOM):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.origin and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = Loader(name, spec.origin)
        return spec


@contextmanager
def instrumented():
    kept = {name: module for name, module in sys.modules.items() if name == ROOM or name.startswith(ROOM + ".")}
    for name in kept:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder())
    try:
        yield importlib.import_module(ROOM + ".diagnose")
    finally:
        sys.meta_path.pop(0)
        for name in [name for name in sys.modules if name == ROOM or name.startswith(ROOM + ".")]:
            del sys.modules[name]
        sys.modules.update(kept)


def test_all() -> None:
    with instrumented() as d:
        for archive in sorted(f for f in (HERE / "bundles").iterdir() if f.suffix != ".json"):
            for one in (read_bundle(archive) if archive.suffix == ".gz" else d.evidence_of(read(archive.read_text()))):
                d.diagnose(one)
        for dump in sorted((HERE / "dumps").rglob("*.*")):
            if ".truth." in dump.name:
                continue
            try:
                for one in d.evidence_of(read(dump.read_text())):
                    d.diagnose(one)
            except HangError:
                print(dump)
    missed = sorted(Loader.places - Loader.reached)
    print(f"{len(Loader.places) - len(missed)} of {len(Loader.places)}")
    print("\n".join(f"{f}:{l}: {w}" for f, l, w in missed))
    assert not missed
