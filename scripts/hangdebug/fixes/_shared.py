"""Judge an executor that outlives the function which shuts it down: a module's, or one kept in an attribute.

    def log(self, line):
        return self.pool.submit(write, line)     nobody need wait for what it returns
    async def close(self):
        self.pool.shutdown()                     so this wait completes it

Each function of the file that hands it work is judged by itself. A future that it returns is waited for only if every
caller in the file waits for it.
"""

from __future__ import annotations

from typing import Iterator

import libcst as cst

from hangdebug.fixes._follow import follow, inherits
from hangdebug.fixes._scopes import (
    OWN_EXIT, Tree, coroutine, dotted, executor_class, frame, qualified, references, subtree, written,
)
from hangdebug.fixes._waits import Trail, Work
from hangdebug.fixes._work import RETURNED, walk

HANDS = ("submit", "map")
LIFESPAN = "follow snippets/lifespan_executor.py"
BASE = frozenset(("concurrent.futures.Executor", "concurrent.futures._base.Executor"))


def kept_work(tree: Tree, owner: cst.FunctionDef, node: cst.Call, receiver: cst.BaseExpression) -> str:
    """The refusal for the shutdown `node` of the coroutine `owner`, "" where all work is waited for elsewhere."""
    homes: dict = {}
    for use in uses(tree, receiver):
        homes.setdefault(function(tree, use), []).append(use)
    loose = []
    for home, found in homes.items():
        if home is None:
            loose += [(tree.line(use), "it is started where the file is loaded") for use in found if hands(tree, use)]
            continue
        verdict = follow(tree, home, found, node if home is owner else home)
        loose += [(line, words) for line, words in verdict.loose if words != RETURNED or not awaited(tree, home)]
    for line, words in sorted(loose):
        return f"line {line} may leave work in it that only this wait completes: {words}; {LIFESPAN}"
    return ""


def uses(tree: Tree, receiver: cst.BaseExpression) -> list[cst.CSTNode]:
    """The places of the file that read the executor, or may: `audit.pool.submit` is such a place of `self.pool`."""
    if isinstance(receiver, cst.Name):
        return references(tree, receiver)
    return [node for node in tree.parents if isinstance(node, cst.Attribute) and not bound(tree, node)
            and node.attr.value == receiver.attr.value and same(tree, node, receiver)]


def bound(tree: Tree, node: cst.CSTNode) -> bool:
    """Whether it is assigned to, also as one of several."""
    while isinstance(tree.parents[node], (cst.Element, cst.Tuple, cst.List)):
        node = tree.parents[node]
    return written(tree, node)


def same(tree: Tree, node: cst.Attribute, receiver: cst.Attribute) -> bool:
    if dotted(node) != dotted(receiver):
        return hands(tree, node) and dotted(node.value) not in ("self", "cls")
    if dotted(node.value) not in ("self", "cls"):
        return True
    one, other = home(tree, node), home(tree, receiver)
    own = one is not other and any(
        isinstance(each, cst.Attribute) and dotted(each) == dotted(node) and written(tree, each)
        and home(tree, each) is one for each in tree.parents)
    return not own or other is not None and (inherits(one, other) or inherits(other, one))


def hands(tree: Tree, use: cst.CSTNode) -> bool:
    parent = tree.parents[use]
    return isinstance(parent, cst.Attribute) and parent.attr.value in HANDS


def home(tree: Tree, node: cst.CSTNode) -> cst.ClassDef | None:
    return next((up for up in tree.above(node) if isinstance(up, cst.ClassDef)), None)


def function(tree: Tree, node: cst.CSTNode) -> cst.FunctionDef | None:
    found = frame(tree, node)
    while isinstance(found, cst.Lambda):
        found = frame(tree, found)
    return found if isinstance(found, cst.FunctionDef) else None


def awaited(tree: Tree, home: cst.FunctionDef) -> bool:
    """Whether the file calls the function, and each place that names it waits for what it returns."""
    named = list(mentions(tree, home))
    return bool(named) and home.asynchronous is None and all(waits(tree, use) for use in named)


def mentions(tree: Tree, home: cst.FunctionDef) -> Iterator[cst.CSTNode]:
    name = home.name.value
    for node in tree.parents:
        parent = tree.parents[node]
        if isinstance(node, cst.Attribute) and node.attr.value == name:
            yield node
        elif isinstance(node, cst.Name) and node.value == name and getattr(parent, "name", None) is not node:
            if node not in (getattr(parent, "attr", None), getattr(parent, "keyword", None)):
                yield node


def waits(tree: Tree, use: cst.CSTNode) -> bool:
    """Whether the use is a call whose result its own function waits for, in any case."""
    call, caller = tree.parents[use], function(tree, use)
    if caller is None or not isinstance(call, cst.Call) or call.func is not use:
        return False
    trail, work = Trail(tree, caller, caller, tree.end(caller)), Work(call, "concurrent")
    walk(trail, call, work)
    return work not in trail.notes and (work in trail.awaited or any(other == work for other, _ in trail.joined))


# -- where the server starts and stops: there a join is meant, while nothing is served ----------------------


def lifespan(tree: Tree, owner: cst.FunctionDef, depth: int = 3) -> str:
    """The refusal for a function that runs when the server starts and stops, or is called by one; else ""."""
    for item in owner.decorators:
        call = item.decorator.func if isinstance(item.decorator, cst.Call) else item.decorator
        manager = "contextlib.asynccontextmanager" in qualified(tree, call)
        if dotted(call).endswith(".on_event") or (manager and serves_app(tree, owner)):
            return f"a lifespan waits for its work on purpose, while nothing is served; {LIFESPAN}"
    around = {coroutine(tree, use) for use in references(tree, owner)} - {None, owner} if depth else ()
    return next(filter(None, (lifespan(tree, caller, depth - 1) for caller in around)), "")


def serves_app(tree: Tree, owner: cst.FunctionDef) -> bool:
    name, params = owner.name.value, owner.params.params
    passed = any(
        isinstance(node, cst.Arg) and node.keyword and node.keyword.value in ("lifespan", "lifespan_context")
        and dotted(node.value) == name for node in tree.parents
    )
    return passed or "lifespan" in name or bool(params and params[0].name.value in ("app", "_app"))


# -- known less well: by an annotation, or as a class with an exit of its own; reported, not mended ---------


def by_annotation(tree: Tree, node: cst.BaseExpression) -> str:
    """The refusal for a parameter that says it is an executor, "" for anything else."""
    param = only(tree, node)
    param = tree.parents.get(param) if isinstance(param, cst.Name) else param
    kind = param.annotation.annotation if isinstance(param, cst.Param) and param.annotation else None
    if kind is None or not (executor_class(tree, kind) or BASE & qualified(tree, kind)):
        return ""
    return f"`{node.value}` is a parameter, and whether its caller counts on this wait is not known here"


def only(tree: Tree, name: cst.CSTNode) -> cst.CSTNode | None:
    """The one place that binds the name, None where there are more or none."""
    scope = tree.scopes.get(name) if isinstance(name, cst.Name) else None
    found = [getattr(item, "node", None) for item in scope[name.value]] if scope else []
    return found[0] if len(found) == 1 else None


def own_exit(tree: Tree, made: cst.CSTNode) -> str:
    """The refusal for a call of a class in the file whose own `__exit__` calls that of the executor, else ""."""
    home = only(tree, made.func) if isinstance(made, cst.Call) else None
    if not isinstance(home, cst.ClassDef) or len(home.bases) != 1 or not executor_class(tree, home.bases[0].value):
        return ""
    own = {item.name.value: item for item in home.body.body if isinstance(item, cst.FunctionDef)}
    if not set(own) & OWN_EXIT <= {"__enter__", "__exit__"} or "__exit__" not in own:
        return ""
    for node in subtree(own["__exit__"]):
        call = node.func.value if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) else None
        if isinstance(call, cst.Call) and dotted(call.func) == "super" and node.func.attr.value == "__exit__":
            return f"its class has an exit of its own, which joins in line {tree.line(node)}: mend it there"
    return ""
