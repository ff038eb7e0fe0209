"""Which rules a file concerns, told at one walk before its scopes are read.

What a rule finds is called, or held by a `with`, in the frame of a coroutine, and named in the text. An import may
give it another name; that is looked up here. So a rule that is left out finds nothing.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

EXECUTORS = ("ThreadPoolExecutor", "ProcessPoolExecutor")
DEFINITIONS = frozenset((ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # the fields that hold statements
SEVERAL = (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp)
LEAVES = frozenset((str, int, type(None), bool, ast.Name, ast.Constant, ast.Load, ast.Store, ast.Del))


@dataclass(frozen=True)
class Need:
    """What stands in a file that concerns a rule: of each group a word in its text, one of these calls and imports.

    None for the calls or the modules: whatever they are. `leaves`: a coroutine has to leave an executor.
    """

    words: tuple[tuple[str, ...], ...]
    calls: frozenset[str] | None = None
    modules: tuple[str, ...] | None = None
    leaves: bool = False

    def met(self, text: str, contents: Contents) -> bool:
        if self.calls is not None and self.calls.isdisjoint(contents.called):
            return False
        if self.modules is not None and contents.modules.isdisjoint(self.modules):
            return False
        if self.leaves and not contents.leaves_executor:
            return False
        return all(any(word in text for word in group) for group in self.words)


@dataclass(frozen=True)
class Contents:
    """The last names of what coroutines call, the first names of what the file imports, and whether a coroutine
    may leave an executor: by a `with`, a `shutdown()` or an ExitStack."""

    called: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    leaves_executor: bool = False


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

    def contents(self) -> Contents:
        for names in (self.called, self.left, self.classes):
            names |= {new for old, new in self.renamed.items() if old in names}
        self.classes |= {old for old, new in self.renamed.items() if new in EXECUTORS}
        pools = {variable for variable, made in self.made if made in self.classes} | {"_default_executor"}
        pools |= {variable for variable, several in self.drawn if several in pools}
        return Contents(frozenset(self.called), frozenset(self.modules), bool(self.left & (self.classes | pools)))


def contents_of(tree: ast.Module) -> Contents:
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
    return seen.contents()


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
