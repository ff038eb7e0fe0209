"""The rewrites, in the order in which they run. One file each; files with a leading underscore serve them.

A rule that takes a block apart edits libcst's tree; one that replaces a call edits its span of the text. Importing
this package needs libcst: hangdebug.repair.fix imports it when the first file is read, not before.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Callable

from libcst import parse_module

from hangdebug.repair.code import spans as _spans
from hangdebug.repair.code.file import tree_of
from hangdebug.repair.code.spans import Need, Spot, moved, onto, with_imports
from hangdebug.repair.model import Finding
from hangdebug.repair.rules import (
    asyncio_lock,
    await_future,
    lifespan,
    nonblocking_executor,
    sleep,
    sync_endpoint,
    to_thread,
)

__all__ = [
    "RULES",
    "Rule",
    "Spot",
    "check_depth",
    "each_once",
    "fault",
    "moved",
    "onto",
    "parses",
    "spot",
    "tree_of",
    "with_imports",
]

EXECUTORS = ("ThreadPoolExecutor", "ProcessPoolExecutor")
DEFINITIONS = frozenset((ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # the fields that hold statements
SEVERAL = (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp)
LEAVES = frozenset((str, int, type(None), bool, ast.Name, ast.Constant, ast.Load, ast.Store, ast.Del))


@dataclass(frozen=True)
class Rule:
    """`rewrite(source, file, line, exact=..., imports=...)` answers with the new source and its findings.

    `line` may be None. A finding outside of `line`'s construct, or if not `exact` of its function, is left out, and
    so is its edit. A file that meets none of `needs` has nothing for the rule.
    """

    id: str
    about: str
    needs: tuple[Need, ...]
    rewrite: Callable[..., "tuple[str, tuple[Finding, ...]]"]
    slow: bool = False  # it reads the file with libcst

    def concerns(self, source: str, seen: Spot | None) -> bool:
        """`seen` is what `spot` says of the file, None where this Python cannot parse it."""
        return seen is None or any(need.met(source, seen) for need in self.needs)


def rule(module: ModuleType) -> Rule:
    rewrite = getattr(module, "rewrite", None) or partial(_spans.rewrite, module.ID, module.search)
    return Rule(module.ID, module.__doc__.partition("\n")[0], module.NEEDS, rewrite, slow=hasattr(module, "rewrite"))


# A route made synchronous needs no other rule; awaited futures let an executor's exit be mended; the handlers of a
# lifespan are told by their decorators until `lifespan` takes these off. Rules that add lines come last, so that the
# messages of the others name the lines of the file as it is.
RULES = tuple(map(rule, (sync_endpoint, sleep, asyncio_lock, await_future, nonblocking_executor, to_thread, lifespan)))


def each_once(findings: list[Finding]) -> list[Finding]:
    """The findings without the waits in an executor's block that the rule for the wait itself tells of, and better."""
    told = {item.line for item in findings if item.rule != nonblocking_executor.ID}
    return [item for item in findings if item.line not in told or nonblocking_executor.WAITS not in item.message]


# -- whether a text can be parsed ----------------------------------------------------------------------------


def parses(text: str) -> bool:
    try:
        return bool(tree_of(text))
    except (SyntaxError, RecursionError, MemoryError):
        return False


def check_depth(source: str):
    """What the rules may find in the source, None where only libcst can tell.

    Raises RecursionError or MemoryError for an expression so deep that libcst would crash the process. Any other
    fault of syntax is left to libcst, which knows syntax newer than the Python that runs this.
    """
    try:
        tree = tree_of(source)
        return spot(tree) if "async" in source or "on_event" in source else Spot()
    except SyntaxError as error:
        if "too many nested" in str(error):
            raise RecursionError(str(error)) from error
        parse_module(source)
        return None


def fault(source: str, line: int, message: str) -> tuple[int, str]:
    """Line and words of a syntax error: Python's own where it objects too, else those of libcst."""
    try:
        tree_of(source)
    except SyntaxError as error:
        line, message = error.lineno or line, error.msg
    return line, " ".join(message.split())


# -- which of them a file concerns, told at one walk before scopes or libcst look closer -----------------------
#
# What a rule finds is called, or held by a `with`, in the frame of a coroutine, and named in the text. An import may
# give it another name; that is looked up here. So a rule that is left out finds nothing.


@dataclass
class Seen:
    """What the walk gathers. Names of classes and of variables are last names: `cf.ThreadPoolExecutor`, `self.pool`."""

    called: set = field(default_factory=set)
    modules: set = field(default_factory=set)
    renamed: dict = field(default_factory=dict)
    classes: set = field(default_factory=lambda: set(EXECUTORS))  # what may make an executor
    made: list = field(default_factory=list)  # (variable, class) of each assignment of a call
    drawn: list = field(default_factory=list)  # (variable, list or dictionary) of each loop
    left: set = field(default_factory=set)  # classes and variables that a coroutine leaves

    def spot(self) -> Spot:
        for names in (self.called, self.left, self.classes):
            names |= {new for old, new in self.renamed.items() if old in names}
        self.classes |= {old for old, new in self.renamed.items() if new in EXECUTORS}
        pools = {variable for variable, made in self.made if made in self.classes} | {"_default_executor"}
        pools |= {variable for variable, several in self.drawn if several in pools}
        return Spot(frozenset(self.called), frozenset(self.modules), bool(self.left & (self.classes | pools)))


def spot(tree: ast.Module) -> Spot:
    """Outside of coroutines only statements are walked: no expression there can hold a coroutine."""
    seen = Seen()
    todo: list = [(tree, False)]
    while todo:
        node, running = todo.pop()
        kind = type(node)
        if kind in RECORDS:
            RECORDS[kind](seen, node, running)
        inside = (kind is ast.AsyncFunctionDef) if kind in DEFINITIONS else running
        for name in ("args",) if kind is ast.Lambda else node._fields if running else BLOCKS:
            value = getattr(node, name, None)
            within = inside if name == "body" else running
            if value.__class__ is list:
                todo += [(child, within) for child in value if child.__class__ not in LEAVES]
            elif value.__class__ not in LEAVES:
                todo.append((value, within))
    return seen.spot()


def call(seen: Seen, node: ast.Call, running: bool) -> None:
    name = last(node.func)
    seen.called.add(name)
    if name == "shutdown" and isinstance(node.func, ast.Attribute):
        held = node.func.value
        seen.left.add(last(held.value if isinstance(held, ast.Subscript) else held))
    elif name == "enter_context":
        seen.left |= {last(each.func) for each in node.args if isinstance(each, ast.Call)}


def block(seen: Seen, node: ast.With, running: bool) -> None:
    for item in node.items:
        value = branch(item.context_expr.value if isinstance(item.context_expr, ast.NamedExpr) else item.context_expr)
        if running:
            seen.left.add(last(value.func) if isinstance(value, ast.Call) else last(value))
        if isinstance(value, ast.Call) and item.optional_vars is not None:
            seen.made.append((last(item.optional_vars), last(value.func)))


def imports(seen: Seen, node: ast.Import | ast.ImportFrom, running: bool) -> None:
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [item.name for item in node.names]
    seen.modules |= {name.split(".")[0] for name in names}
    seen.renamed.update((item.asname, item.name.split(".")[-1]) for item in node.names if item.asname)


def assigns(seen: Seen, node: ast.Assign | ast.AnnAssign | ast.NamedExpr, running: bool) -> None:
    value = branch(node.value)
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        annotation = getattr(node, "annotation", None)
        if annotation is not None and last(annotation).endswith("Executor"):
            seen.made.append((last(target), EXECUTORS[0]))
        if isinstance(value, ast.Call):
            seen.made.append((last(target), last(value.func)))
        elif isinstance(value, SEVERAL):
            seen.made += [(last(target), last(each.func)) for each in ast.walk(value) if isinstance(each, ast.Call)]
        elif isinstance(value, (ast.Name, ast.Attribute)) and isinstance(target, ast.Name):
            seen.classes.add(target.id)
            seen.drawn.append((target.id, last(value)))


def loop(seen: Seen, node: ast.For, running: bool) -> None:
    source = (
        node.iter.func.value
        if isinstance(node.iter, ast.Call) and isinstance(node.iter.func, ast.Attribute)
        else node.iter
    )
    seen.drawn += [(each.id, last(source)) for each in ast.walk(node.target) if isinstance(each, ast.Name)]


def defines(seen: Seen, node: ast.ClassDef, running: bool) -> None:
    seen.classes |= {node.name} if node.bases else set()


def function(seen: Seen, node: ast.FunctionDef | ast.AsyncFunctionDef, running: bool) -> None:
    """One that returns an executor counts as a class, a parameter that is annotated as one as a variable."""
    made = [each.value.func for each in node.body if isinstance(each, ast.Return) and isinstance(each.value, ast.Call)]
    seen.classes |= {node.name} if any(last(each) in EXECUTORS for each in made) else set()
    for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
        said = each.annotation
        parts = (said,) if said.__class__ in (ast.Name, ast.Attribute, type(None)) else ast.walk(said)
        if any(last(part).endswith("Executor") or "Executor" in str(getattr(part, "value", "")) for part in parts):
            seen.made.append((each.arg, EXECUTORS[0]))


def branch(node: ast.expr | None) -> ast.expr | None:
    """Either branch may stand for both: an executor has to come from each."""
    return branch(node.body) if isinstance(node, ast.IfExp) else node


def last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


RECORDS = {
    ast.Call: call,
    ast.With: block,
    ast.Import: imports,
    ast.ImportFrom: imports,
    ast.Assign: assigns,
    ast.AnnAssign: assigns,
    ast.NamedExpr: assigns,
    ast.For: loop,
    ast.comprehension: loop,
    ast.ClassDef: defines,
    ast.FunctionDef: function,
    ast.AsyncFunctionDef: function,
}
