"""Executors that this function alone does not own: a lifespan's, a parameter's, the loop's, one of several, of a class.

async def close(self):                what other coroutines wait for may still be in it, so it must not be dropped:
    self.pool.shutdown()              `await asyncio.to_thread(self.pool.shutdown)` waits for it as before, off the loop
"""

from __future__ import annotations

import libcst as cst
from libcst import metadata

from hangdebug.repair.code.blocks import waits
from hangdebug.repair.code.file import parse as parse_text
from hangdebug.repair.code.places import obstacle
from hangdebug.repair.code.scopes import (
    OWN_EXIT,
    Tree,
    assigned,
    coroutine,
    creates,
    dotted,
    executor_class,
    qualified,
    references,
    subtree,
    targets,
)

LIFESPAN = "follow snippets/lifespan_executor.py"
BASE = frozenset(("concurrent.futures.Executor", "concurrent.futures._base.Executor"))


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
        isinstance(node, cst.Arg)
        and node.keyword
        and node.keyword.value in ("lifespan", "lifespan_context")
        and dotted(node.value) == name
        for node in tree.parents
    )
    return passed or "lifespan" in name or bool(params and params[0].name.value in ("app", "_app"))


# -- known less well: by an annotation, or as a class with an exit of its own; reported, not mended ---------


def by_annotation(tree: Tree, node: cst.BaseExpression) -> str:
    """The refusal for a parameter that says it is an executor, "" for anything else."""
    param = only(tree, node)
    param = tree.parents.get(param) if isinstance(param, cst.Name) else param
    kind = param.annotation.annotation if isinstance(param, cst.Param) and param.annotation else None
    meant = assigned(tree, only(tree, kind)) if isinstance(kind, cst.Name) and only(tree, kind) else None
    if not any(
        executor_class(tree, each) or BASE & qualified(tree, each)
        for part in (kind, meant)
        if part is not None
        for each in subtree(part)
        if isinstance(each, (cst.Name, cst.Attribute, cst.SimpleString))
    ):
        return ""
    return f"`{node.value}` is a parameter, and whether its caller counts on this wait is not known here"


def known_less(tree: Tree, receiver: cst.BaseExpression) -> str:
    """The refusal for an executor that no single name stands for: a parameter, the loop's own, one of several."""
    meant = (
        assigned(tree, only(tree, receiver)) if isinstance(receiver, cst.Name) and only(tree, receiver) else receiver
    )
    if isinstance(meant, cst.Attribute) and meant.attr.value == "_default_executor":
        return (
            "it is the loop's own executor, on which asyncio.to_thread() and name lookups rely: leave it to the loop, or "
            "await loop.shutdown_default_executor() where the program ends"
        )
    if one_of_several(tree, receiver):
        return "it is one of several executors, and what is in each is not followed here: await asyncio.to_thread() for each"
    return by_annotation(tree, receiver)


def one_of_several(tree: Tree, receiver: cst.BaseExpression) -> bool:
    """Whether it is drawn from a list or a dictionary that holds nothing but executors."""
    if isinstance(receiver, cst.Subscript):
        return several(tree, receiver.value)
    target = only(tree, receiver)
    while isinstance(tree.parents.get(target), (cst.Element, cst.Tuple)):
        target = tree.parents[target]
    loop = tree.parents.get(target)
    source = loop.iter if isinstance(loop, (cst.For, cst.CompFor)) and loop.target is target else None
    if (
        isinstance(source, cst.Call)
        and isinstance(source.func, cst.Attribute)
        and source.func.attr.value in ("values", "items")
    ):
        source = source.func.value
    return source is not None and several(tree, source)


def several(tree: Tree, node: cst.BaseExpression) -> bool:
    values = [node] if not dotted(node) else [assigned(tree, each) for each in targets(tree, node)]
    parts = [
        [each.value for each in value.elements]
        if isinstance(value, (cst.Dict, cst.List, cst.Tuple, cst.Set))
        else [getattr(value, "value", None) if isinstance(value, cst.DictComp) else getattr(value, "elt", None)]
        for value in values
    ]
    return bool(parts) and all(part and all(creates(tree, each) for each in part) for part in parts)


def only(tree: Tree, name: cst.CSTNode) -> cst.CSTNode | None:
    """The one place that binds the name, None where there are more or none."""
    scope = tree.scopes.get(name) if isinstance(name, cst.Name) else None
    found = [getattr(item, "node", None) for item in scope[name.value]] if scope else []
    return found[0] if len(found) == 1 else None


def own_exit(tree: Tree, made: cst.CSTNode | None) -> str:
    """The refusal for a call of a class in the file whose own exit waits as the executor's does, else ""."""
    home = only(tree, made.func) if isinstance(made, cst.Call) else None
    if not isinstance(home, cst.ClassDef) or len(home.bases) != 1 or not executor_class(tree, home.bases[0].value):
        return ""
    own = {item.name.value: item for item in home.body.body if isinstance(item, cst.FunctionDef)}
    if set(own) & OWN_EXIT - {"__enter__", "__exit__", "shutdown"}:
        return ""
    for name in ("__exit__", "shutdown"):
        for node in subtree(own[name]) if name in own else ():
            call = node.func.value if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) else None
            if isinstance(call, cst.Call) and dotted(call.func) == "super" and node.func.attr.value == name:
                if name == "__exit__" or waits(node) or waits(node) is None and patient(own[name]):
                    return f"its class has an exit of its own, which joins in line {tree.line(node)}: mend it there"
        if name in own:
            return ""  # it may do anything there
    return ""


def patient(function: cst.FunctionDef) -> bool:
    """Whether its `wait` is true where the caller says nothing."""
    given = [each for each in (*function.params.params, *function.params.kwonly_params) if each.name.value == "wait"]
    return not given or dotted(given[0].default or cst.Name("True")) == "True"


def processes(tree: Tree, receiver: cst.BaseExpression) -> bool:
    """Whether it is a module's pool of processes: its end is the end of the program, and is to be waited for."""
    values = [assigned(tree, target) for target in targets(tree, receiver)]
    made = set().union(*(qualified(tree, value.func) for value in values if isinstance(value, cst.Call)))
    scope = tree.scopes.get(receiver) if isinstance(receiver, cst.Name) else None
    shared = scope is not None and all(isinstance(item.scope, metadata.GlobalScope) for item in scope[receiver.value])
    return shared and bool(made) and all(name.endswith("ProcessPoolExecutor") for name in made)


# -- the wait that may go to a thread --------------------------------------------------------------------------


def no_await(tree: Tree, node: cst.Call) -> str:
    """Why `await asyncio.to_thread(pool.shutdown)` cannot stand where the call does, "" where it can."""
    if "set_default_executor" in tree.module.code:
        return "the file gives the loop a default executor, on which asyncio.to_thread() would wait for itself"
    try:
        file = parse_text(tree.module.code)
    except SyntaxError:
        return "the file is written for a newer Python than the one that runs this"
    line, column = tree.start(node)
    calls = [
        each
        for each in file.calls
        if each.lineno == line
        and file.starts[line - 1] + column == file.start(each)
        and getattr(each.func, "attr", "") == "shutdown"
    ]
    plain = len(calls) == 1 and isinstance(tree.parents[node], cst.Expr)
    return obstacle(file, calls[0], last=True) if plain else "it stands in the middle of a statement"
