"""Await a concurrent future, where the coroutine waits for it on the event loop's thread.

    future = pool.submit(fetch)           future = pool.submit(fetch)
    page = future.result()                page = await asyncio.wrap_future(future)

A loop over `as_completed(jobs)` becomes one over `asyncio.as_completed(...)` that awaits each, `wait(jobs)`
an `await asyncio.gather(...)`, `list(pool.map(fetch, urls))` a list of awaited jobs, all over wrapped futures. The
loop may be left early, by a `break`, an exception or a reader that goes; a `gather` in front of it takes what the
others raise then, which asyncio would report as never retrieved.

What changes: other coroutines run meanwhile, and a cancellation (a client that leaves) may arrive there; it drops
the work if it still is in the queue.

Known are the futures of `submit` on an executor that the file shows to be one, and of `run_coroutine_threadsafe`,
kept in a local name or list that is used for nothing else.

Refused aloud: a timeout (its exception is another class before Python 3.11), `.exception()`, the sets that `wait`
returns, futures that are looked up by identity (`urls[done]`), `wait` and `as_completed` over futures that the file
does not show, what else drains a `map` (`sum`, a loop, unpacking), and each place where no await can stand.

Left alone: results of tasks and of futures that are not known; `result(timeout=0)`; a future that was asked `.done()`,
waited for, or handed on before; a result that is read after its executor was left, which waited for it.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

from hangdebug.repair.code.await_places import ANY_LOOP, any_loop, import_needed, other_loop, parenthesize, why_no_await
from hangdebug.repair.code.bindings import COMPREHENSIONS, walk
from hangdebug.repair.code.executors import is_executor
from hangdebug.repair.code.file import File, dotted, fresh_name, is_none, is_zero
from hangdebug.repair.code.findings import Found, Need
from hangdebug.repair.code.future_waits import (
    MAP,
    are_futures,
    find_drained,
    is_done_by_then,
    is_future,
    is_kept_future,
    polls,
    reads_each,
    refuse_unknown,
    what_drains,
    why_cancelling_differs,
)
from hangdebug.repair.model import Edit, apply

ID, CODE = "await_future", "HNG005"
NEEDS = (
    Need((("Executor",),), frozenset(("wait", "map", "as_completed"))),
    Need((("concurrent",), ("wait", "as_completed")), frozenset(("wait", "as_completed"))),
    Need((("async",),), frozenset(("result", "exception"))),  # the pool may stand in another file
    Need((("async",), ("app.state.",)), frozenset(("map",))),
    Need((("run_coroutine_threadsafe",),), frozenset(("wait", "as_completed"))),
)
WRAP = "asyncio.wrap_future"
LATE = "a timeout there raises another exception than asyncio's before Python 3.11: use asyncio.wait_for() by hand"
PLAIN = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.List, ast.Set, ast.Dict, ast.ListComp, ast.GeneratorExp)
RAISES = "an await raises what it returns: await asyncio.wait() over the wrapped future first, by hand"
LOST = "a comment in it would be lost: move that first"
MIXED = "it stands in the middle of a statement: give its futures a name in a line of their own first"
KEPT = (
    "others may hold the same future, and a cancellation here would cancel it for them: await "
    "asyncio.shield(asyncio.wrap_future(...)) by hand"
)
DOES_MORE = (
    "the loop does more with its futures than to read the result of each, first and once, and asyncio.as_completed() "
    "gives other objects: wrap each job in a coroutine that returns all of it"
)
DRAWN = "only `list` of it is rewritten: await the wrapped futures by hand"
TAKES = "# takes what the others raise, once the loop is left"
CHOICES = (ast.IfExp, ast.BoolOp, ast.Lambda, ast.NamedExpr)
BRANCHES = (ast.IfExp, ast.BoolOp, ast.If, ast.For, ast.While, ast.Lambda, *COMPREHENSIONS)
EFFECTS = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
GATHER = "await asyncio.gather(*{}, return_exceptions=True)"


def search(file: File) -> Iterator[Found]:
    for node in file.calls_in_coroutines if not other_loop(file) else ():
        owner = file.coroutine(node)
        if owner is None or isinstance(file.parent(node), ast.Await):
            continue
        name = file.qualified(node.func)
        if name == "concurrent.futures.wait":
            yield from wait_for_all(file, node, owner)
        elif name == "concurrent.futures.as_completed":
            yield from loop_over_completed(file, node, owner)
        elif name in ("builtins.list", "builtins.tuple"):
            yield from list_of_map(file, node)
        elif name == "builtins.map":
            yield from map_of_results(file, node, owner)
        else:
            yield from read_result(file, node, owner)
            yield from find_drained(file, node)


# -- what waits for it -------------------------------------------------------------------------------------


def read_result(file: File, node: ast.Call, owner: ast.AsyncFunctionDef) -> Iterator[Found]:
    """`future.result()`, `pool.submit(f).result()`, and the same of `exception()`."""
    if not isinstance(node.func, ast.Attribute) or node.func.attr not in ("result", "exception"):
        return
    taken, verb = node.func.value, node.func.attr
    limit = node.args[0] if node.args else next((each.value for each in node.keywords), None)
    if is_zero(limit) or is_done_by_then(file, node, taken, owner):
        return
    named = f"{file.short(taken.func)}(...)" if isinstance(taken, ast.Call) else file.short(taken)
    said = f"{named}.{verb}() waits on the event loop's thread"
    if not is_future(file, taken, owner):
        if is_kept_future(file, taken):
            yield Found(node, f"{said}, but {KEPT}", refused=True)
        return
    reason = LATE if not (limit is None or is_none(limit)) else RAISES * (verb == "exception")
    reason = reason or why_cancelling_differs(file, taken) or why_no_await(file, node) or why_unusual(file, node)
    start = file.start(node)
    wrapping = (Edit(start, start, f"await {WRAP}("), Edit(file.end(taken), file.end(node), ")"))
    yield answer(file, node, said, reason, f"`await {WRAP}(...)`", parenthesized(file, node, wrapping))


def why_unusual(file: File, call: ast.Call) -> str:
    """Why a call of a method is not rewritten whose receiver stands in parentheses, "" for any other."""
    plain = isinstance(call.func, ast.Attribute) and file.start(call.func.value) == file.start(call)
    return "" if plain else "its parentheses are unusual: take them away first"


def parenthesized(file: File, node: ast.expr, edits: tuple[Edit, ...]) -> tuple[Edit, ...]:
    before, after = parenthesize(file, node)
    return (*before, *edits, *after)


def answer(file: File, node: ast.expr, said: str, reason: str, becomes: str, edits: tuple[Edit, ...]) -> Found:
    reason = ANY_LOOP if any_loop(file) else reason
    if reason:
        return Found(node, f"{said}, but {reason}", refused=True)
    return Found(node, f"{said}; it becomes {becomes}", edits, import_needed(file, node, "asyncio") or ())


def wait_for_all(file: File, node: ast.Call, owner: ast.AsyncFunctionDef) -> Iterator[Found]:
    """`concurrent.futures.wait(jobs)`."""
    said = "concurrent.futures.wait() waits on the event loop's thread"
    if not node.args or polls(node):
        return
    jobs = node.args[0]
    if not are_futures(file, jobs, owner):
        yield from refuse_unknown(file, node, said)
        return
    reason = why_cancelling_differs(file, jobs) or why_no_await(file, node)
    if len(node.args) > 1 or node.keywords:
        reason = "it has more arguments than the futures: use asyncio.wait() over wrapped futures by hand"
    elif not isinstance(file.parent(node), ast.Expr):
        reason = "what it returns is used: use asyncio.wait() over wrapped futures by hand"
    elif isinstance(jobs, ast.Dict):
        reason = "its futures are keys"
    head, tail = GATHER.format(f"map({WRAP}, \0)").split("\0")
    edits = (Edit(file.start(node), file.start(jobs), head), Edit(file.end(jobs), file.end(node), tail))
    yield answer(file, node, said, reason, "`await asyncio.gather(...)`", edits)


def loop_over_completed(file: File, node: ast.Call, owner: ast.AsyncFunctionDef) -> Iterator[Found]:
    """A loop over `as_completed(jobs)` whose body reads each result, once and in any case."""
    said = "as_completed() of concurrent.futures waits on the event loop's thread"
    if not node.args:
        return
    if not are_futures(file, node.args[0], owner):
        yield from refuse_unknown(file, node, said)
        return
    jobs, loop = node.args[0], file.parent(node)
    reason = why_cancelling_differs(file, jobs) or why_no_await(file, node)
    plain = isinstance(loop, (ast.For, ast.comprehension)) and loop.iter is node and isinstance(loop.target, ast.Name)
    spot = only_result(file, loop) if plain and isinstance(loop, (ast.For, ast.comprehension)) else None
    if len(node.args) > 1 or node.keywords:
        reason = LATE
    elif not plain:
        reason = "it is no plain loop: use asyncio.as_completed() over wrapped futures by hand"
    elif spot is None:
        reason = reason or DOES_MORE
    else:
        edges = (file.start(node), file.start(jobs)), (file.end(jobs), file.end(node))
        reason = reason or why_no_await(file, spot) or why_unusual(file, spot)
        reason = reason or LOST * any("#" in file.text[one:other] for one, other in edges)
        reason = reason or MIXED * (not first_of_line(file, node, file.statement(node)))
    if reason or spot is None:
        yield answer(file, node, said, reason, "", ())
        return
    statement, name = file.statement(node), fresh_name(file, "waiting")
    margin, waits = file.indent(statement), f"asyncio.gather(*{name}, return_exceptions=True)"
    lines = f"{file.newline}{margin}".join((f"{name} = {wrap_jobs(file, jobs)}", TAKES, waits, ""))
    result = file.end(spot.func.value) if isinstance(spot.func, ast.Attribute) else file.end(spot)
    edits = (
        Edit(file.start(statement), file.start(statement), lines),
        Edit(file.start(node), file.end(node), f"asyncio.as_completed({name})"),
        *parenthesized(
            file, spot, (Edit(file.start(spot), file.start(spot), "await "), Edit(result, file.end(spot), ""))
        ),
    )
    yield answer(file, node, said, "", "`asyncio.as_completed(...)`, each awaited", edits)


def first_of_line(file: File, node: ast.Call, statement: ast.stmt) -> bool:
    """Whether what the call is given can be computed in a line of its own in front of its statement."""
    if file.indent(statement).strip():
        return False
    if isinstance(statement, ast.For):
        return file.parent(node) is statement
    kinds = (ast.Return, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr)
    if not isinstance(statement, kinds) or (
        isinstance(statement, ast.AugAssign) and not isinstance(statement.target, ast.Name)
    ):
        return False
    up = list(itertools.takewhile(lambda each: each is not statement, file.above(node)))
    drawn = isinstance(file.parent(node), ast.comprehension)
    if sum(isinstance(each, COMPREHENSIONS) for each in up) != drawn or any(isinstance(each, CHOICES) for each in up):
        return False
    inner = [each for each in up if isinstance(each, COMPREHENSIONS)]
    earlier = [each for each in walk(statement) if isinstance(each, EFFECTS) and file.end(each) <= file.start(node)]
    return all(any(part in inner for part in file.above(each)) for each in earlier)


def wrap_jobs(file: File, jobs: ast.expr) -> str:
    """The same futures as those of asyncio: each where it is written out, else in a list of their own."""
    if isinstance(jobs, (ast.ListComp, ast.SetComp)):
        parts = [jobs.elt]
    elif isinstance(jobs, (ast.List, ast.Set, ast.Tuple)):
        parts = jobs.elts
    else:
        each = fresh_name(file, "job")
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
    call = file.method_call(uses[0], "result") if len(uses) == 1 else None
    if call is None or call.args or call.keywords or not isinstance(loop.target, ast.Name):
        return None
    if len(file.lookup(loop.target, loop.target.id)[1]) != 1:
        return None
    if isinstance(loop, ast.comprehension):
        return None if loop.ifs else call
    first, up = loop.body[0], list(file.above(call))
    first = first.body[0] if isinstance(first, ast.Try) else first
    if loop.orelse or first not in up or any(isinstance(each, BRANCHES) for each in up[: up.index(first) + 1]):
        return None
    risky = [
        each
        for each in walk(first)
        if isinstance(each, (*EFFECTS, ast.Subscript))
        and not isinstance(getattr(each, "ctx", None), ast.Store)
        and file.end(each) <= file.start(call)
    ]  # if it raises, what as_completed() gave is never awaited
    return None if risky else call


def list_of_map(file: File, node: ast.Call) -> Iterator[Found]:
    """`list(pool.map(work, items))`."""
    call = node.args[0] if len(node.args) == 1 and not node.keywords else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr != "map":
        return
    if not is_executor(file, call.func.value):
        return
    said = f"{file.short(node.func)}({file.short(call.func)}(...)) waits on the event loop's thread"
    reason = why_no_await(file, node)
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
    elif not isinstance(call.args[0], ast.Lambda) and not dotted(call.args[0]):
        reason = reason or "the function is computed there: give it a name first"
    statement = file.statement(node)
    end = file.end(statement)
    rest = "" if isinstance(statement, ast.For) else file.text[end : file.line_end(end)]
    if not first_of_line(file, node, statement) or (rest.strip() and not rest.lstrip().startswith("#")):
        reason = reason or MIXED
    edits = () if reason else tuple(submit_all(file, node, call, statement, end + len(rest)))
    yield answer(file, node, said, reason, f"a list of `await {WRAP}(...)`", edits)


def map_of_results(file: File, node: ast.Call, owner: ast.AsyncFunctionDef) -> Iterator[Found]:
    """`list(map(lambda job: job.result(), jobs))`, as `[await ... for job in jobs]`; what else draws it is told."""
    words, whole, around = what_drains(file, node), node, file.parent(node)
    if not words or not reads_each(file, node) or not are_futures(file, node.args[1], owner):
        return
    if is_done_by_then(file, node, node.args[1], owner):
        return
    if isinstance(around, ast.Call) and file.source(around.func) == "list" and len(around.args) == 1:
        whole = around
    work = node.args[0]
    name = work.args.args[0].arg if isinstance(work, ast.Lambda) else "job"
    reason = why_cancelling_differs(file, node.args[1]) or why_no_await(file, whole)
    reason = reason or DRAWN * (whole is node) or LOST * ("#" in file.source(whole))
    jobs = file.source(node.args[1])
    edits = (Edit(file.start(whole), file.end(whole), f"[await {WRAP}({name}) for {name} in {jobs}]"),)
    said = f"{words} map(..., {file.short(node.args[1])}) waits for each result on the event loop's thread"
    yield answer(file, whole, said, reason, f"a list of `await {WRAP}(...)`", parenthesized(file, whole, edits))


def submit_all(file: File, node: ast.Call, call: ast.Call, statement: ast.stmt, end: int) -> Iterator[Edit]:
    """The statement of `list(pool.map(work, items))` behind a line that hands over all items; it ends at `end`."""
    pool, (work, items), each = (
        file.source(call.func)[: -len(".map")],
        map(file.source, call.args),
        fresh_name(file, "item"),
    )
    items = items if isinstance(call.args[1], PLAIN) else f"({items})"
    jobs, job, start = fresh_name(file, "jobs"), fresh_name(file, "job"), file.start(statement)
    line, step = f"{file.newline}{file.indent(statement)}", file.step(statement)
    results = f"[await {WRAP}({job}) for {job} in {jobs}]"
    head = line.join((f"{jobs} = [{pool}.submit({work}, {each}) for {each} in {items}]", f"try:{line}{step}"))
    cancels = f"{step * 2}{job}.cancel()  # as a map() does where one fails"
    tail = line.join(("finally:", f"{step}for {job} in {jobs}:", cancels))
    if isinstance(statement, ast.For):
        name = fresh_name(file, "results")
        yield Edit(start, start, f"{head}{name} = {results}{line}{tail}{line}")
        yield Edit(file.start(node), file.end(node), name)
    else:
        yield Edit(start, start, head)
        yield from parenthesized(file, node, (Edit(file.start(node), file.end(node), results),))
        yield Edit(end, end, f"{line}{tail}")
