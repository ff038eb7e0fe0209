"""Await a concurrent future, where the coroutine waits for it on the event loop's thread.

    future = pool.submit(fetch)           future = pool.submit(fetch)
    page = future.result()                page = await asyncio.wrap_future(future)

A loop over `as_completed(jobs)` becomes one over `asyncio.as_completed(...)` that awaits each, `wait(jobs)`
an `await asyncio.gather(...)`, `list(pool.map(fetch, urls))` a list of awaited jobs, all over wrapped futures. The loop may be left
early, by a `break`, an exception or a reader that goes; a `gather` in front of it takes what the others raise then,
which asyncio would report as never retrieved.

What changes: other coroutines run meanwhile, and a cancellation (a client that leaves) may arrive there; it drops
the work if it still is in the queue.

Known are the futures of `submit` on an executor that the file shows to be one, and of `run_coroutine_threadsafe`,
kept in a local name or list that is used for nothing else.

Refused aloud: a timeout (its exception is another class before Python 3.11), `.exception()`, the sets that `wait` returns, futures
that are looked up by identity (`urls[done]`), `wait` and `as_completed` over futures that the file does not show,
what else drains a `map` (`sum`, a loop, unpacking), and each place where no await can stand.

Left alone: results of tasks and of futures that are not known; `result(timeout=0)`; a future that was asked `.done()`,
waited for, or handed on before; a result that is read after its executor was left, which waited for it.
"""

from __future__ import annotations

import ast
import itertools
from typing import Iterator

from hangdebug.repair.code.await_places import obstacle, other_loop, reach, wrap
from hangdebug.repair.code.bindings import COMPREHENSIONS, walk
from hangdebug.repair.code.concerns import Need
from hangdebug.repair.code.edits import Edit, apply
from hangdebug.repair.code.file import File, dotted
from hangdebug.repair.code.findings import Found
from hangdebug.repair.code.future_waits import MAP, cancelled, drained, finished, fresh, indent, polls, unknown
from hangdebug.repair.code.futures import executor, future, futures

ID = "await_future"
NEEDS = (
    Need((("Executor",),), frozenset(("result", "exception", "wait", "map", "as_completed"))),
    Need((("concurrent",),), frozenset(("wait", "as_completed"))),
    Need((("run_coroutine_threadsafe",),), frozenset(("result", "exception", "wait", "as_completed"))),
)
WRAP = "asyncio.wrap_future"
LATE = "a timeout there raises another exception than asyncio's before Python 3.11: use asyncio.wait_for() by hand"
PLAIN = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.List, ast.Set, ast.Dict, ast.ListComp, ast.GeneratorExp)
RAISES = "an await raises what it returns: await asyncio.wait() over the wrapped future first, by hand"
ODD = "its parentheses are unusual: take them away first"
LOST = "a comment in it would be lost: move that first"
MIXED = "it stands in the middle of a statement: give its futures a name in a line of their own first"
TAKES = "# what they raise, once the loop is left"
CHOICES = (ast.IfExp, ast.BoolOp, ast.Lambda, ast.NamedExpr)
EFFECTS = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
GATHER = "await asyncio.gather(*{}, return_exceptions=True)"


def search(file: File) -> Iterator[Found]:
    for node in file.calls if not other_loop(file) else ():
        owner = file.coroutine(node)
        if owner is None or isinstance(file.parent(node), ast.Await):
            continue
        name = file.qualified(node.func)
        if name == "concurrent.futures.wait":
            item = None if polls(node) else waited(file, node)
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
    """`future.result()`, `pool.submit(f).result()`, and the same of `exception()`."""
    if not isinstance(node.func, ast.Attribute) or node.func.attr not in ("result", "exception"):
        return None
    taken, owner = node.func.value, file.coroutine(node)
    if not future(file, taken, owner) or finished(file, node, taken, owner):
        return None
    limit = node.args[0] if node.args else next((each.value for each in node.keywords), None)
    if isinstance(limit, ast.Constant) and limit.value == 0 and limit.value is not None:
        return None
    named = f"{file.short(taken.func)}(...)" if isinstance(taken, ast.Call) else file.short(taken)
    said = f"{named}.{node.func.attr}() waits on the event loop's thread"
    late = limit is not None and not (isinstance(limit, ast.Constant) and limit.value is None)
    reason = (
        LATE if late else RAISES * (node.func.attr == "exception") or cancelled(file, taken) or obstacle(file, node)
    )
    reason = reason or ODD * (file.start(taken) != file.start(node))
    if reason:
        return Found(node, f"{said}, but {reason}", refused=True)
    before, after = wrap(file, node)
    edits = (
        *before,
        Edit(file.start(node), file.start(node), f"await {WRAP}("),
        Edit(file.end(taken), file.end(node), ")"),
        *after,
    )
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
    elif (
        not isinstance(loop, (ast.For, ast.comprehension))
        or loop.iter is not node
        or not isinstance(loop.target, ast.Name)
    ):
        reason = "it is no plain loop: use asyncio.as_completed() over wrapped futures by hand"
    else:
        spot = only_result(file, loop)
        if spot is None:
            reason = reason or (
                "the loop does more with its futures than to read the result of each, first and once, and "
                "asyncio.as_completed() gives other objects: wrap each job in a coroutine that returns all of it"
            )
        reason = reason or obstacle(file, spot) or ODD * (file.start(spot.func.value) != file.start(spot))
        edges = (file.start(node), file.start(node.args[0])), (file.end(node.args[0]), file.end(node))
        reason = reason or LOST * any("#" in file.text[one:other] for one, other in edges)
        reason = reason or MIXED * (not first_of_line(file, node, file.statement(node)))
    if reason:
        return Found(node, f"{said}, but {reason}", refused=True)
    before, after = wrap(file, spot)
    statement, name = file.statement(node), fresh(file, "waiting")
    start, margin = file.start(statement), indent(file, statement)
    lines = (f"{name} = {wrapped(file, node.args[0])}", f"asyncio.gather(*{name}, return_exceptions=True)  {TAKES}", "")
    edits = (
        Edit(start, start, f"{file.newline}{margin}".join(lines)),
        Edit(file.start(node), file.end(node), f"asyncio.as_completed({name})"),
        *before,
        Edit(file.start(spot), file.start(spot), "await "),
        Edit(file.end(spot.func.value), file.end(spot), ""),
        *after,
    )
    return Found(
        node, f"{said}; it becomes `asyncio.as_completed(...)`, each awaited", edits, reach(file, node, "asyncio")
    )


def first_of_line(file: File, node: ast.Call, statement: ast.stmt) -> bool:
    """Whether what the call is given can be computed in a line of its own in front of its statement."""
    if indent(file, statement).strip():
        return False
    if isinstance(statement, ast.For):
        return file.parent(node) is statement
    up = list(itertools.takewhile(lambda each: each is not statement, file.above(node)))
    drawn = isinstance(file.parent(node), ast.comprehension)
    around = sum(isinstance(each, COMPREHENSIONS) for each in up) == drawn and not any(
        isinstance(each, CHOICES) for each in up
    )
    earlier = [
        each
        for each in walk(statement)
        if isinstance(each, EFFECTS)
        and file.end(each) <= file.start(node)
        and not any(isinstance(part, COMPREHENSIONS) for part in file.above(each) if part in up)
    ]
    return (
        around
        and not earlier
        and isinstance(statement, (ast.Return, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr))
        and not (isinstance(statement, ast.AugAssign) and not isinstance(statement.target, ast.Name))
    )


def wrapped(file: File, jobs: ast.expr) -> str:
    """The same futures as those of asyncio: each where it is written out, else in a list of their own."""
    parts = jobs.elts if isinstance(jobs, (ast.List, ast.Set, ast.Tuple)) else [getattr(jobs, "elt", None)]
    if None in parts:
        each = fresh(file, "job")
        return f"[{WRAP}({each}) for {each} in {file.source(jobs)}]"
    edits = [
        edit
        for part in parts
        for edit in (Edit(file.start(part), file.start(part), f"{WRAP}("), Edit(file.end(part), file.end(part), ")"))
    ]
    return apply(file.text[: file.end(jobs)], edits)[file.start(jobs) :]


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
    between = up[: up.index(body)] if body in up else None
    odd = between is None or any(isinstance(each, branches) for each in (*between, body))
    risky = [
        each
        for each in walk(body)
        if isinstance(each, (*EFFECTS, ast.Subscript))
        and not isinstance(getattr(each, "ctx", None), ast.Store)
        and file.end(each) <= file.start(call)
    ]  # if it raises, what as_completed() gave is never awaited
    return None if odd or risky or loop.orelse else call


def mapped(file: File, node: ast.Call) -> Found | None:
    """`list(pool.map(work, items))`."""
    call = node.args[0] if len(node.args) == 1 and not node.keywords else None
    named = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "map"
    if not named or not executor(file, call.func.value):
        return None
    said = f"{file.short(node.func)}({file.short(call.func)}(...)) waits on the event loop's thread"
    reason = obstacle(file, node)
    if (
        file.source(node.func) != "list"
        or len(call.args) != 2
        or any(isinstance(each, ast.Starred) for each in call.args)
    ):
        reason = MAP
    elif call.keywords:
        reason = f"its `{call.keywords[0].arg or '**'}` has no like there: gather wrapped futures by hand"
    elif not dotted(call.func.value):
        reason = "the executor is made there, and would be made for each item: give it a name first"
    elif "#" in file.source(node):
        reason = LOST
    elif any(isinstance(part, (ast.NamedExpr, ast.Yield, ast.YieldFrom)) for part in walk(call)):
        reason = "an assignment or a yield in it cannot stand in a comprehension: give that a name first"
    if reason:
        return Found(node, f"{said}, but {reason}", refused=True)
    pool, (work, items), each = file.source(call.func.value), map(file.source, call.args), fresh(file, "item")
    if not isinstance(call.args[0], ast.Lambda) and not dotted(call.args[0]):
        return Found(node, f"{said}, but the function is computed there: give it a name first", refused=True)
    statement = file.statement(node)
    rest = file.text[file.end(statement) : file.starts[statement.end_lineno]]
    rest = "" if isinstance(statement, ast.For) else rest
    if not first_of_line(file, node, statement) or rest.strip() and not rest.lstrip().startswith("#"):
        return Found(node, f"{said}, but {MIXED}", refused=True)
    items = items if isinstance(call.args[1], PLAIN) else f"({items})"
    jobs, job, start, margin = fresh(file, "jobs"), fresh(file, "job"), file.start(statement), indent(file, statement)
    step, line_end = "\t" if "\t" in margin else " " * 4, file.end(statement) + len(rest.rstrip("\r\n"))
    head = (f"{jobs} = [{pool}.submit({work}, {each}) for {each} in {items}]", "try:", step)
    tail = (
        "",
        "finally:",
        f"{step}for {job} in {jobs}:",
        f"{step * 2}{job}.cancel()  # as a map() does where one fails",
    )
    (before, after), results = wrap(file, node), f"[await {WRAP}({job}) for {job} in {jobs}]"
    if isinstance(statement, ast.For):
        name = fresh(file, "results")
        lines = (*head[:2], f"{step}{name} = {results}", *tail[1:], "")
        edits = (
            Edit(start, start, f"{file.newline}{margin}".join(lines)),
            Edit(file.start(node), file.end(node), name),
        )
    else:
        edits = (
            Edit(start, start, f"{file.newline}{margin}".join(head)),
            *before,
            Edit(file.start(node), file.end(node), results),
            *after,
            Edit(line_end, line_end, f"{file.newline}{margin}".join(tail)),
        )
    return Found(node, f"{said}; it becomes a list of `await {WRAP}(...)`", edits, reach(file, node, "asyncio"))
