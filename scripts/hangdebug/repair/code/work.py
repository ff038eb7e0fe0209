"""Follow one piece of work outwards from its expression, to whatever waits for it.

    futures = [loop.run_in_executor(pool, fetch, url) for url in urls]
    for done in asyncio.as_completed(futures):
        yield await done

The walk goes through calls that pass a future on (`gather`, `list`), into the names that it is assigned to,
to an `await`. A wait on the loop's own thread (`.result()`, a loop over `map()`) blocks by itself.
"""

from __future__ import annotations

import libcst as cst

from hangdebug.repair.code.scopes import Tree, dotted, frame, qualified, references
from hangdebug.repair.code.waits import Trail, Work, again, counts, is_group, join, settle, verb, waits_inside

PASSES = frozenset(
    "wrap_future create_task ensure_future wait_for gather as_completed wait list set tuple dict zip "
    "enumerate iter next anext map filter reversed sorted partial to_thread run_in_executor run_sync "
    "values items keys pop popitem popleft copy submit".split()
)
PICKS = frozenset("next anext pop popitem popleft".split())
LAZY = frozenset("zip enumerate iter map filter partial to_thread run_in_executor run_sync".split())
COLLECTS = frozenset("append add extend appendleft insert update setdefault put_nowait".split())
WAITS = frozenset(("concurrent.futures.wait", "concurrent.futures.as_completed"))
CARRIERS = (
    cst.Arg,
    cst.Element,
    cst.StarredElement,
    cst.DictElement,
    cst.StarredDictElement,
    cst.List,
    cst.Tuple,
    cst.Set,
    cst.Dict,
    cst.ListComp,
    cst.SetComp,
    cst.DictComp,
    cst.GeneratorExp,
    cst.Subscript,
    cst.Lambda,
    cst.BinaryOperation,
)
LOOPS = (cst.For, cst.While)
RETURNED = "it is returned unfinished"


def walk(trail: Trail, node: cst.CSTNode, work: Work, kind: str = "") -> None:
    """From `node`, which carries `work`, outwards until something waits for it, names it or drops it."""
    kind = kind or work.kind
    while node is not None and (node, work) not in trail.seen:
        trail.seen.add((node, work))
        node, kind = step(trail, node, trail.tree.parents[node], work, kind)


def step(trail: Trail, node: cst.CSTNode, parent: cst.CSTNode, work: Work, kind: str) -> tuple:
    """The next node outwards and the kind of what it carries; (None, kind) at the end of the way."""
    if isinstance(parent, cst.Await):
        reach(trail, work, parent)
    elif isinstance(parent, cst.Call):
        return call(trail, node, parent, work, kind)
    elif isinstance(parent, cst.Attribute):
        return attribute(trail, parent, work, kind)
    elif isinstance(parent, (cst.For, cst.CompFor)):
        if node is parent.iter and parent.asynchronous:
            reach(trail, work, parent)
        elif node is parent.iter and getattr(parent, "ifs", ()):
            trail.notes.setdefault(work, f"line {trail.tree.line(parent)} picks only a part of it")
        elif node is parent.iter:
            if kind == "results":  # what the loop draws is a result, done by then
                join(trail, work, node, "the loop over map() waits")
            else:
                name(trail, parent.target, work, kind)
    elif isinstance(parent, (cst.Assign, cst.AnnAssign, cst.AugAssign, cst.NamedExpr)):
        several = isinstance(parent, cst.Assign)
        for target in [item.target for item in parent.targets] if several else [parent.target]:
            name(trail, target, work, kind, since=None if isinstance(parent, cst.AugAssign) else parent)
        return (parent if isinstance(parent, cst.NamedExpr) else None), kind
    elif isinstance(parent, cst.Return):
        left(trail, parent, work, kind)
    elif isinstance(parent, cst.Yield):
        trail.notes[work] = "it is yielded unfinished"
    elif isinstance(parent, cst.Subscript) and picks(parent):
        trail.notes.setdefault(work, f"line {trail.tree.line(parent)} picks only a part of it")
    elif isinstance(parent, cst.StarredElement) and kind == "results":
        join(trail, work, node, "unpacking map() waits")
    elif isinstance(parent, CARRIERS) or (isinstance(parent, cst.IfExp) and node is not parent.test):
        return parent, kind
    return None, kind


def call(trail: Trail, node: cst.CSTNode, parent: cst.Call, work: Work, kind: str) -> tuple:
    """`node` is called, or is an argument of the call `parent`."""
    if node is parent.func:
        if kind == "function" and frame(trail.tree, parent) is trail.owner and waits_inside(trail, node):
            join(trail, work, parent, f"{verb(parent)}() waits")
        elif kind == "function":
            trail.awaited.setdefault(work, trail.tree.start(parent))  # what it starts is followed by itself
        return parent, kind
    called, owner = verb(parent), parent.func.value if isinstance(parent.func, cst.Attribute) else None
    if qualified(trail.tree, parent.func) & WAITS and frame(trail.tree, parent) is trail.owner:
        join(trail, work, parent, f"{called}() of concurrent.futures waits")
    elif kind == "results" and called not in LAZY:
        join(trail, work, parent, f"{called}(...) waits for every result of map()")
    elif called in ("create_task", "start_soon") and isinstance(owner, cst.Name) and is_group(trail, owner):
        reach(trail, work, parent)
    elif called in COLLECTS and owner is not None:
        name(trail, owner, work, kind)
    elif called in PICKS and not again(trail, parent):
        trail.notes.setdefault(work, f"line {trail.tree.line(parent)} picks only a part of it")
    elif called == "shield":
        trail.notes[work] = "shield() says that a cancellation must not drop it"
    elif called in PASSES:
        return parent, "awaitable" if called in ("wrap_future", "create_task", "ensure_future") else kind
    else:
        trail.notes.setdefault(work, f"it is handed to {called or 'a call'}(), which may not wait for it")
    return None, kind


def attribute(trail: Trail, parent: cst.Attribute, work: Work, kind: str) -> tuple:
    outer = trail.tree.parents[parent]
    called = isinstance(outer, cst.Call) and outer.func is parent
    if trail.tree.start(parent) >= trail.end and frame(trail.tree, parent) is trail.owner:
        trail.notes.setdefault(work, f"line {trail.tree.line(parent)} reads it only after the exit")
    if parent.attr.value == "done":
        trail.tested.add(work)
    elif parent.attr.value in ("result", "exception") and called and kind == "concurrent":
        if not any(getattr(arg.value, "value", "") in ("0", "0.0") for arg in outer.args):
            join(trail, work, outer, f".{parent.attr.value}() waits")
        return (None if counts(trail, outer, work) else outer), kind
    elif parent.attr.value in ("result", "exception") and not called:
        return parent, kind  # to_thread(future.result)
    elif parent.attr.value in PICKS and called and not again(trail, parent):
        trail.notes.setdefault(work, f"line {trail.tree.line(parent)} picks only a part of it")
    elif parent.attr.value in PASSES and called:
        return outer, kind
    return None, kind


def picks(node: cst.Subscript) -> bool:
    """Whether the subscript is a slice or a constant, so that the rest of a collection is left."""
    index = node.slice[0].slice
    return not isinstance(index, cst.Index) or isinstance(
        index.value, (cst.Integer, cst.SimpleString, cst.UnaryOperation)
    )


def name(trail: Trail, target: cst.CSTNode, work: Work, kind: str, since: cst.CSTNode | None = None) -> None:
    """`target` now carries the work: follow every place that reads it, after the assignment `since`."""
    if isinstance(target, (cst.Tuple, cst.List)):
        waited = [
            each
            for each in target.elements
            if isinstance(each.value, cst.Name)
            and any(isinstance(trail.tree.parents[use], cst.Await) for use in references(trail.tree, each.value))
        ]
        for element in waited or target.elements:  # of `for url, job in jobs` only the job is awaited
            name(trail, element.value, work, kind, since)
    elif isinstance(target, cst.Subscript):
        name(trail, target.value, work, kind)
    elif isinstance(target, cst.Name) and trail.tree.scopes.get(target):
        for use in references(trail.tree, target):
            if since is None or still(trail.tree, target, since, use):
                walk(trail, use, work, kind)
    else:
        trail.notes.setdefault(work, f"it is kept in {dotted(target) or 'an attribute'}")


def still(tree: Tree, target: cst.Name, since: cst.CSTNode, use: cst.CSTNode) -> bool:
    """Whether `use` can read what `since` assigned, and not only the last of many that a loop assigned."""
    above = list(tree.above(since))
    loop = next((up for up in above if isinstance(up, LOOPS)), None)
    if loop is not None and frame(tree, loop) is frame(tree, since):
        return loop in tree.above(use)
    later = [
        tree.start(spot.node)
        for spot in tree.scopes[target][target.value]
        if hasattr(spot, "node")
        and tree.start(spot.node) > tree.start(since)
        and above[1] in list(tree.above(spot.node))[:4]
    ]
    rebound = min(later, default=None)
    closure = frame(tree, use) is not frame(tree, since)
    return closure or tree.start(since) < tree.start(use) and (rebound is None or tree.start(use) < rebound)


def left(trail: Trail, node: cst.Return, work: Work, kind: str) -> None:
    home = frame(trail.tree, node)
    if home is trail.owner:
        trail.notes[work] = RETURNED
    else:
        callers(trail, home, work, kind)


def callers(trail: Trail, home: cst.CSTNode, work: Work, kind: str) -> None:
    """A nested function carries the work: follow every place that names it."""
    for use in references(trail.tree, home) if isinstance(home, cst.FunctionDef) else ():
        walk(trail, use, work, kind)


def reach(trail: Trail, work: Work, node: cst.CSTNode) -> None:
    """`node` awaits the work, in the coroutine or in a nested function that has to be run in turn."""
    if counts(trail, node, work):
        settle(trail, work, node)
    else:
        callers(trail, frame(trail.tree, node), work, "awaitable")
