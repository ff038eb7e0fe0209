"""Follow one piece of work outwards from its expression, to whatever waits for it.

    futures = [loop.run_in_executor(pool, fetch, url) for url in urls]
    for done in asyncio.as_completed(futures):
        yield await done

The walk goes through calls that pass a future on (`gather`, `list`), into the names that it is assigned to,
to an `await`. A wait on the loop's own thread (`.result()`, a loop over `map()`) blocks by itself.
"""

from __future__ import annotations

import ast
from typing import Optional

from hangdebug.repair.code.bindings import COMPREHENSIONS
from hangdebug.repair.code.file import File, dotted, is_zero
from hangdebug.repair.code.work_waits import (
    FUNCTION,
    LOOPS,
    Trail,
    Work,
    is_group,
    loops_around,
    note_wait,
    runs_in_time,
    verb_of,
)

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
    ast.keyword,
    ast.Starred,
    ast.List,
    ast.Tuple,
    ast.Set,
    ast.Dict,
    *COMPREHENSIONS,
    ast.Subscript,
    ast.IfExp,
    ast.Lambda,
    ast.BinOp,
)
ASSIGNS = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr)
Step = tuple[Optional[ast.AST], str]  # the next node outwards, and the kind of what it carries


def walk(trail: Trail, node: ast.AST | None, work: Work, kind: str = "") -> None:
    """From `node`, which carries `work`, outwards until something waits for it, names it or drops it."""
    kind = kind or work.kind
    while node is not None and (node, work) not in trail.seen:
        trail.seen.add((node, work))
        node, kind = step(trail, node, trail.file.parent(node), work, kind)


def step(trail: Trail, node: ast.AST, parent: ast.AST, work: Work, kind: str) -> Step:
    if isinstance(parent, ast.Call):
        return into_call(trail, node, parent, work, kind)
    if isinstance(parent, ast.Attribute):
        return into_attribute(trail, parent, work, kind)
    if isinstance(parent, ASSIGNS):
        for target in targets_of(parent) if node is parent.value else ():
            into_name(trail, target, work, kind, since=None if isinstance(parent, ast.AugAssign) else parent)
        return (parent if isinstance(parent, ast.NamedExpr) else None), kind
    if isinstance(parent, CARRIERS):
        return (parent if carries(trail, node, parent, work, kind) else None), kind
    if isinstance(parent, (ast.For, ast.AsyncFor, ast.comprehension)) and node is parent.iter:
        into_loop(trail, parent, work, kind)
    elif isinstance(parent, ast.Await):
        note_await(trail, work, parent)
    elif isinstance(parent, ast.Return):
        into_return(trail, parent, work, kind)
    elif isinstance(parent, ast.Yield):
        trail.notes[work] = "it is yielded unfinished"
    return None, kind


def carries(trail: Trail, node: ast.AST, parent: ast.AST, work: Work, kind: str) -> bool:
    """Whether the expression around carries all of the work on."""
    if isinstance(parent, ast.IfExp):
        return node is not parent.test
    if isinstance(parent, ast.Subscript):
        if node is not parent.slice and picks_a_part(parent):
            only_a_part(trail, parent, work)
        return node is not parent.slice and not picks_a_part(parent)
    unpacks = isinstance(parent, ast.Starred) and not isinstance(trail.file.parent(parent), ast.Call)
    if isinstance(parent, ast.Starred) and unpacks and kind == "results":
        note_join(trail, work, parent.value, "unpacking map() waits")
        return False
    return True


def targets_of(node: ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def into_return(trail: Trail, node: ast.Return, work: Work, kind: str) -> None:
    home = trail.file.frame(node)
    if home is trail.owner:
        trail.notes[work] = "it is returned unfinished"
    else:
        through_callers(trail, home, work, kind)


def only_a_part(trail: Trail, node: ast.AST, work: Work) -> None:
    trail.note(work, f"line {trail.file.line(node)} picks only a part of it")


def note_join(trail: Trail, work: Work, node: ast.expr, words: str) -> None:
    trail.joined[work, node] = words


def into_loop(trail: Trail, loop: ast.For | ast.AsyncFor | ast.comprehension, work: Work, kind: str) -> None:
    if isinstance(loop, ast.AsyncFor) or (isinstance(loop, ast.comprehension) and loop.is_async):
        note_await(trail, work, loop)
    elif isinstance(loop, ast.comprehension) and loop.ifs:
        only_a_part(trail, loop, work)
    elif kind == "results":  # what the loop draws is a result, done by then
        note_join(trail, work, loop.iter, "the loop over map() waits")
    else:
        into_name(trail, loop.target, work, kind)


def into_call(trail: Trail, node: ast.AST, parent: ast.Call, work: Work, kind: str) -> Step:
    """`node` is called, or is an argument of the call `parent`."""
    called, inside = verb_of(parent), trail.file.frame(parent) is trail.owner
    if node is parent.func:
        into_own_call(trail, parent, work, kind)
        return parent, kind
    receiver = parent.func.value if isinstance(parent.func, ast.Attribute) else None
    if trail.file.qualified(parent.func) in WAITS and inside:
        note_join(trail, work, parent, f"{called}() of concurrent.futures waits")
    elif kind == "results" and called not in LAZY:
        note_join(trail, work, parent, f"{called}(...) waits for every result of map()")
    elif called in ("create_task", "start_soon") and isinstance(receiver, ast.Name) and is_group(trail, receiver):
        note_await(trail, work, parent)
    elif called in COLLECTS and receiver is not None:
        into_name(trail, receiver, work, kind)
    elif called in PICKS and not loops_around(trail, parent):
        only_a_part(trail, parent, work)
    elif called == "shield":
        trail.notes[work] = "shield() says that a cancellation must not drop it"
    elif called in PASSES:
        return parent, "awaitable" if called in ("wrap_future", "create_task", "ensure_future") else kind
    else:
        trail.note(work, f"it is handed to {called or 'a call'}(), which may not wait for it")
    return None, kind


def into_own_call(trail: Trail, call: ast.Call, work: Work, kind: str) -> None:
    """What starts the work is called itself: a nested function, which may wait for it too."""
    if kind == "function" and trail.file.frame(call) is trail.owner and waits_inside(trail, call.func):
        note_join(trail, work, call, f"{verb_of(call)}() waits")
    elif kind == "function":
        trail.awaited.setdefault(work, trail.file.start(call))  # what it starts is followed by itself


def into_attribute(trail: Trail, parent: ast.Attribute, work: Work, kind: str) -> Step:
    file, outer = trail.file, trail.file.parent(parent)
    call = outer if isinstance(outer, ast.Call) and outer.func is parent else None
    if file.start(parent) >= trail.end and file.frame(parent) is trail.owner:
        trail.note(work, f"line {parent.lineno} reads it only after the exit")
    if parent.attr == "done":
        trail.tested.add(work)
    elif parent.attr in ("result", "exception") and call and kind == "concurrent":
        if not any(map(is_zero, arguments(call))):
            note_join(trail, work, call, f".{parent.attr}() waits")
        return (None if runs_in_time(trail, call, work) else call), kind
    elif parent.attr in ("result", "exception") and not call:
        return parent, kind  # to_thread(future.result)
    elif parent.attr in PICKS and call and not loops_around(trail, parent):
        only_a_part(trail, parent, work)
    elif parent.attr in PASSES and call:
        return call, kind
    return None, kind


def arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(each.value for each in call.keywords)]


def picks_a_part(node: ast.Subscript) -> bool:
    """Whether the subscript is a slice or a constant, so that the rest of a collection is left."""
    return isinstance(node.slice, (ast.Slice, ast.Tuple, ast.Constant, ast.UnaryOp))


def into_name(trail: Trail, target: ast.expr, work: Work, kind: str, since: ast.AST | None = None) -> None:
    """`target` now carries the work: follow every place that reads it, after the assignment `since`."""
    file = trail.file
    if isinstance(target, (ast.Tuple, ast.List)):
        parts = [each.value if isinstance(each, ast.Starred) else each for each in target.elts]
        waited = [each for each in parts if isinstance(each, ast.Name) and awaited_itself(file, each)]
        for each in waited or parts:  # of `for url, job in jobs` only the job is awaited
            into_name(trail, each, work, kind, since)
    elif isinstance(target, ast.Subscript):
        into_name(trail, target.value, work, kind)
    elif isinstance(target, ast.Name):
        for use in file.uses(target):
            if since is None or still(file, target, since, use):
                walk(trail, use, work, kind)
    else:
        trail.note(work, f"it is kept in {dotted(target) or 'an attribute'}")


def awaited_itself(file: File, name: ast.Name) -> bool:
    return any(isinstance(file.parent(use), ast.Await) for use in file.uses(name))


def still(file: File, target: ast.Name, since: ast.AST, use: ast.expr) -> bool:
    """Whether `use` can read what `since` assigned, and not only the last of many that a loop assigned."""
    loop = next((up for up in file.above(since) if isinstance(up, LOOPS)), None)
    if loop is not None and file.frame(loop) is file.frame(since):
        return loop in file.above(use)
    if file.frame(use) is not file.frame(since):
        return True
    block = file.block(since)
    later = [
        file.start(item.node)
        for item in file.lookup(target, target.id)[1]
        if file.start(item.node) > file.start(since)
        and not isinstance(file.parent(item.node), (ast.Tuple, ast.List))
        and file.block(item.node) is block
    ]
    return file.start(since) < file.start(use) < min(later, default=len(file.text) + 1)


def through_callers(trail: Trail, home: ast.AST, work: Work, kind: str) -> None:
    """A nested function carries the work: follow every place that names it."""
    for use in trail.file.uses(home) if isinstance(home, FUNCTION) else ():
        walk(trail, use, work, kind)


def note_await(trail: Trail, work: Work, node: ast.AST) -> None:
    """`node` awaits the work, in the coroutine or in a nested function that has to be run in turn."""
    if runs_in_time(trail, node, work):
        note_wait(trail, work, node)
    else:
        through_callers(trail, trail.file.frame(node), work, "awaitable")


def waits_inside(trail: Trail, use: ast.AST) -> bool:
    """Whether the nested function that is called there waits for work itself."""
    found = trail.file.lookup(use, use.id)[1] if isinstance(use, ast.Name) else []
    return any(item.node in trail.file.above(node) for item in found for _, node in trail.joined)
