"""Await a concurrent future, where the coroutine waits for it on the event loop's thread.

    future = pool.submit(fetch)           future = pool.submit(fetch)
    page = future.result()                page = await asyncio.wrap_future(future)

A loop over `as_completed(jobs)` becomes one over `asyncio.as_completed(...)` that awaits each, `wait(jobs)` and
`list(pool.map(fetch, urls))` become an `await asyncio.gather(...)`, all over wrapped futures.

What changes: other coroutines run meanwhile, and a cancellation (a client that leaves) may arrive there; it drops
the work if it still is in the queue. Of several calls that fail, `gather` raises what failed first in time.

Known are the futures of `submit` on an executor that the file shows to be one, and of `run_coroutine_threadsafe`,
kept in a local name or list that is used for nothing else.

Refused aloud: a timeout (its exception is another class before Python 3.11), the sets that `wait` returns, futures
that are looked up by identity (`urls[done]`), `wait` and `as_completed` over futures that the file does not show,
what else drains a `map` (`sum`, a loop, unpacking), and each place where no await can stand.

Left alone: results of tasks and of futures that are not known; `result(timeout=0)`; a future that was asked `.done()`,
waited for, or handed on before; a result that is read after its executor was left, which waited for it.
"""

from __future__ import annotations

import ast
from typing import Iterator

from hangdebug.fixes._bindings import COMPREHENSIONS, walk
from hangdebug.fixes._eager import MAP, drained, unknown
from hangdebug.fixes._file import File, dotted
from hangdebug.fixes._futures import executor, finished, future, futures
from hangdebug.fixes._places import obstacle, other_loop, reach, wrap
from hangdebug.fixes._spans import Edit, Found, Need

ID = "await_future"
NEEDS = (
    Need((("ThreadPoolExecutor", "ProcessPoolExecutor"),), frozenset(("result", "wait", "map", "as_completed"))),
    Need((("concurrent",),), frozenset(("wait", "as_completed"))),
    Need((("run_coroutine_threadsafe",),), frozenset(("result", "wait", "as_completed"))),
)
WRAP = "asyncio.wrap_future"
LATE = "a timeout there raises another exception than asyncio's before Python 3.11: use asyncio.wait_for() by hand"
PLAIN = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.List, ast.Set, ast.Dict, ast.ListComp, ast.GeneratorExp)
ODD = "its parentheses are unusual: take them away first"
GATHER = "await asyncio.gather(*{}, return_exceptions=True)"


def search(file: File) -> Iterator[Found]:
    for node in file.calls if not other_loop(file) else ():
        owner = file.coroutine(node)
        if owner is None or isinstance(file.parent(node), ast.Await):
            continue
        name = file.qualified(node.func)
        if name == "concurrent.futures.wait":
            item = waited(file, node)
        elif name == "concurrent.futures.as_completed":
            item = completed(file, node)
        elif name in ("builtins.list", "builtins.tuple"):
            item = mapped(file, node)
        else:
            item = read(file, node)
            yield from drained(file, node)
        if item is not None:
            yield item


# -- what waits for it -------------------------------------------------------------------------------------


def read(file: File, node: ast.Call) -> Found | None:
    """`future.result()`, `pool.submit(f).result()`."""
    if not isinstance(node.func, ast.Attribute) or node.func.attr != "result":
        return None
    taken, owner = node.func.value, file.coroutine(node)
    if not future(file, taken, owner) or finished(file, node, taken, owner):
        return None
    limit = node.args[0] if node.args else next((each.value for each in node.keywords), None)
    if isinstance(limit, ast.Constant) and limit.value == 0 and limit.value is not None:
        return None
    named = dotted(taken) or f"{file.short(taken.func)}(...)"
    said = f"{named}.result() waits on the event loop's thread"
    late = limit is not None and not (isinstance(limit, ast.Constant) and limit.value is None)
    reason = LATE if late else obstacle(file, node) or ODD * (file.start(taken) != file.start(node))
    if reason:
        return Found(node, f"{said}, but {reason}", refused=True)
    before, after = wrap(file, node)
    edits = (*before, Edit(file.start(node), file.start(node), f"await {WRAP}("),
             Edit(file.end(taken), file.end(node), ")"), *after)
    return Found(node, f"{said}; it becomes `await {WRAP}(...)`", edits, reach(file, node, "asyncio"))


def waited(file: File, node: ast.Call) -> Found | None:
    """`concurrent.futures.wait(jobs)`."""
    owner, said = file.coroutine(node), "concurrent.futures.wait() waits on the event loop's thread"
    if not node.args or not futures(file, node.args[0], owner):
        return unknown(file, node, said) if node.args else None
    reason = obstacle(file, node)
    if len(node.args) > 1 or node.keywords:
        reason = "it has more arguments than the futures: use asyncio.wait() over wrapped futures by hand"
    elif not isinstance(file.parent(node), ast.Expr):
        reason = "what it returns is used: use asyncio.wait() over wrapped futures by hand"
    elif isinstance(node.args[0], ast.Dict):
        reason = "its futures are keys"
    if reason:
        return Found(node, f"{said}, but {reason}", refused=True)
    start, end = file.start(node), file.end(node)
    inner = node.args[0]
    head, tail = GATHER.format(f"map({WRAP}, \0)").split("\0")
    edits = (Edit(start, file.start(inner), head), Edit(file.end(inner), end, tail))
    return Found(node, f"{said}; it becomes `await asyncio.gather(...)`", edits, reach(file, node, "asyncio"))


def completed(file: File, node: ast.Call) -> Found | None:
    """A loop over `as_completed(jobs)` whose body reads each result, once and in any case."""
    owner, loop = file.coroutine(node), file.parent(node)
    said = "as_completed() of concurrent.futures waits on the event loop's thread"
    if not node.args or not futures(file, node.args[0], owner):
        return unknown(file, node, said) if node.args else None
    spot, reason = None, obstacle(file, node)
    if len(node.args) > 1 or node.keywords:
        reason = LATE
    elif not isinstance(loop, (ast.For, ast.comprehension)) or loop.iter is not node or not isinstance(loop.target, ast.Name):
        reason = "it is no plain loop: use asyncio.as_completed() over wrapped futures by hand"
    else:
        spot = only_result(file, loop)
        if spot is None:
            reason = reason or ("the loop uses its futures for more than one result each, and asyncio.as_completed() "
                                "gives other objects: wrap each job in a coroutine that returns what belongs to it")
        reason = reason or obstacle(file, spot) or ODD * (file.start(spot.func.value) != file.start(spot))
    if reason:
        return Found(node, f"{said}, but {reason}", refused=True)
    before, after = wrap(file, spot)
    edits = (Edit(file.start(node.func), file.end(node.func), "asyncio.as_completed"), *wrapped(file, node.args[0]),
             *before, Edit(file.start(spot), file.start(spot), "await "),
             Edit(file.end(spot.func.value), file.end(spot), ""), *after)
    return Found(node, f"{said}; it becomes `asyncio.as_completed(...)`, each awaited", edits,
                 reach(file, node, "asyncio"))


def wrapped(file: File, jobs: ast.expr) -> tuple[Edit, ...]:
    """The same futures as those of asyncio: each where it is written out, else in a list of their own."""
    parts = jobs.elts if isinstance(jobs, (ast.List, ast.Set, ast.Tuple)) else [getattr(jobs, "elt", None)]
    if None in parts:
        each, start, end = fresh(file, "job"), file.start(jobs), file.end(jobs)
        return Edit(start, start, f"[{WRAP}({each}) for {each} in "), Edit(end, end, "]")
    starts, ends = ([side(part) for part in parts] for side in (file.start, file.end))
    return tuple(edit for start, end in zip(starts, ends) for edit in (Edit(start, start, f"{WRAP}("), Edit(end, end, ")")))


def only_result(file: File, loop: ast.For | ast.comprehension) -> ast.Call | None:
    """The one `done.result()` that the loop's body always runs, None where the variable does anything else."""
    uses = file.uses(loop.target)
    call = file.parent(file.parent(uses[0])) if len(uses) == 1 else None
    plain = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "result"
    if not plain or call.args or call.keywords or len(file.lookup(uses[0], uses[0].id)[1]) != 1:
        return None
    if isinstance(loop, ast.comprehension):
        return call if not loop.ifs and call.func.value is uses[0] else None
    body, up = loop.body[0], list(file.above(call))
    body = body.body[0] if isinstance(body, ast.Try) else body
    branches = (ast.IfExp, ast.BoolOp, ast.If, ast.For, ast.While, ast.Lambda, *COMPREHENSIONS)
    between = up[:up.index(body)] if body in up else None
    odd = between is None or any(isinstance(each, branches) for each in (*between, body))
    return None if odd or loop.orelse else call


def mapped(file: File, node: ast.Call) -> Found | None:
    """`list(pool.map(work, items))`."""
    call = node.args[0] if len(node.args) == 1 and not node.keywords else None
    named = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "map"
    if not named or not executor(file, call.func.value):
        return None
    said = f"{file.short(node.func)}({file.short(call.func)}(...)) waits on the event loop's thread"
    reason = obstacle(file, node)
    plain = len(call.args) == 2 and not call.keywords and not any(isinstance(each, ast.Starred) for each in call.args)
    if not plain or file.source(node.func) != "list":
        reason = MAP
    elif "#" in file.source(node):
        reason = "a comment in it would be lost: move that first"
    elif any(isinstance(part, (ast.NamedExpr, ast.Yield, ast.YieldFrom)) for part in walk(call)):
        reason = "an assignment or a yield in it cannot stand in a comprehension: give that a name first"
    if reason:
        return Found(node, f"{said}, but {reason}", refused=True)
    pool, (work, items), each = file.source(call.func.value), map(file.source, call.args), fresh(file, "item")
    if not isinstance(call.args[0], ast.Lambda) and not dotted(call.args[0]):
        return Found(node, f"{said}, but the function is computed there: give it a name first", refused=True)
    items = items if isinstance(call.args[1], PLAIN) else f"({items})"
    new = f"await asyncio.gather(*[{WRAP}({pool}.submit({work}, {each})) for {each} in {items}])"
    before, after = wrap(file, node)
    edits = (*before, Edit(file.start(node), file.end(node), new), *after)
    return Found(node, f"{said}; it becomes `await asyncio.gather(...)`", edits, reach(file, node, "asyncio"))


def fresh(file: File, name: str) -> str:
    """A name that the file uses nowhere."""
    taken = {each for scope in (file.scopes.module, *file.scopes.opened.values()) for each in scope.names}
    taken |= set(file.scopes.reads)
    return next(each for each in (name, *(f"{name}_{count}" for count in range(1, 999))) if each not in taken)
