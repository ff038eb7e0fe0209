"""Await a concurrent future, where the coroutine waits for it on the event loop's thread.

    future = pool.submit(fetch)           future = pool.submit(fetch)
    page = future.result()                page = await asyncio.wrap_future(future)

    for done in as_completed(jobs):       for done in asyncio.as_completed([asyncio.wrap_future(job) for job in jobs]):
        yield done.result()                   yield await done

    concurrent.futures.wait(jobs)         await asyncio.gather(*map(asyncio.wrap_future, jobs), return_exceptions=True)

    list(pool.map(fetch, urls))           await asyncio.gather(*[asyncio.wrap_future(pool.submit(fetch, item)) for item in urls])

What changes: other coroutines run meanwhile, and a cancellation (a client that leaves) may arrive there; it drops
the work if it still is in the queue. Of several calls that fail, `gather` raises what failed first in time.

Known are the futures of `submit` on an executor that the file shows to be one, and of `run_coroutine_threadsafe`,
kept in a local name or list that is used for nothing else.

Refused aloud: a timeout (its exception is another class before Python 3.11), the sets that `wait` returns, futures
that are looked up by identity (`urls[done]`), and each place where no await can stand.

Left alone: results of tasks and of futures that are not known; `result(timeout=0)`; a future that was asked `.done()`,
waited for, or handed on before; a result that is read after its executor was left, which waited for it.
"""

from __future__ import annotations

import ast
from typing import Iterator

from hangdebug.fixes._bindings import COMPREHENSIONS, walk
from hangdebug.fixes._file import File, dotted
from hangdebug.fixes._places import obstacle, other_loop, reach, wrap
from hangdebug.fixes._scopes import EXECUTORS
from hangdebug.fixes._spans import Edit, Found
from hangdebug.fixes._spot import Need

ID = "await_future"
NEEDS = (
    Need((("ThreadPoolExecutor", "ProcessPoolExecutor"),), frozenset(("result", "wait", "map", "as_completed"))),
    Need((("run_coroutine_threadsafe",),), frozenset(("result", "wait", "as_completed"))),
)
WRAP = "asyncio.wrap_future"
LATE = "a timeout there raises another exception than asyncio's before Python 3.11: use asyncio.wait_for() by hand"
GATHER = "await asyncio.gather(*{}, return_exceptions=True)"
LISTS = (ast.List, ast.ListComp)


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
        if item is not None:
            yield item


# -- what is a future --------------------------------------------------------------------------------------


def starts(file: File, node: ast.AST | None) -> bool:
    """Whether the expression is a call that gives a concurrent future."""
    if not isinstance(node, ast.Call):
        return False
    if file.qualified(node.func) == "asyncio.run_coroutine_threadsafe":
        return True
    return isinstance(node.func, ast.Attribute) and node.func.attr == "submit" and executor(file, node.func.value)


def executor(file: File, node: ast.expr) -> bool:
    return file.maker(node) in EXECUTORS


def future(file: File, node: ast.expr, owner: ast.AST) -> bool:
    """Whether the expression is such a call, or a local name for nothing but such futures, each used as one."""
    if starts(file, node):
        return True
    if not isinstance(node, ast.Name) or not local(file, node, owner):
        return False
    bound = [item.node for item in file.lookup(node, node.id)[1]]
    known = all(starts(file, value) for value in file.values(node)) or all(drawn(file, each, owner) for each in bound)
    return bool(bound) and known and all(reads(file, use, owner) for use in file.uses(node))


def drawn(file: File, target: ast.AST, owner: ast.AST) -> bool:
    """Whether the name is the variable of a loop over a list of such futures."""
    loop = file.parent(target)
    fits = isinstance(loop, (ast.For, ast.comprehension)) and loop.target is target
    return fits and futures(file, loop.iter, owner)


def futures(file: File, node: ast.expr, owner: ast.AST) -> bool:
    """Whether the expression is a list of such futures, or a local name for one that is used for nothing else."""
    if isinstance(node, (ast.ListComp, ast.SetComp)):
        return starts(file, node.elt)
    if isinstance(node, (ast.List, ast.Set, ast.Tuple)):
        return all(starts(file, each) for each in node.elts)
    if isinstance(node, ast.DictComp):
        return starts(file, node.key)
    if not isinstance(node, ast.Name) or not local(file, node, owner):
        return False
    values = file.values(node)
    made = bool(values) and all(value is not None and not isinstance(value, ast.Name)
                                and futures(file, value, owner) for value in values)
    return made and all(lists(file, use, owner) for use in file.uses(node)) and filled(file, node)


def filled(file: File, node: ast.Name) -> bool:
    """An empty list has to get its futures from an append."""
    empty = [value for value in file.values(node) if isinstance(value, ast.List) and not value.elts]
    return not empty or any(isinstance(file.parent(use), ast.Attribute) and file.parent(use).attr == "append"
                            for use in file.uses(node))


def local(file: File, node: ast.Name, owner: ast.AST) -> bool:
    scope = file.lookup(node, node.id)[0]
    while scope is not None and isinstance(scope.node, COMPREHENSIONS):
        scope = scope.outer
    return scope is not None and scope.node is owner


def reads(file: File, use: ast.Name, owner: ast.AST) -> bool:
    """Whether the use only reads the result, or puts the future into a list."""
    parent = file.parent(use)
    if isinstance(parent, ast.Attribute):
        return parent.attr in ("result", "exception", "cancel") and file.frame(use) is owner
    return isinstance(parent, ast.Call) and isinstance(parent.func, ast.Attribute) and parent.func.attr == "append"


def lists(file: File, use: ast.Name, owner: ast.AST) -> bool:
    parent = file.parent(use)
    if isinstance(parent, ast.Attribute) and parent.attr == "append":
        call = file.parent(parent)
        given = call.args[0] if isinstance(call, ast.Call) and call.args else None
        named = isinstance(given, ast.Name) and all(starts(file, value) for value in file.values(given))
        return starts(file, given) or named
    if isinstance(parent, ast.Call):
        return file.qualified(parent.func) in ("concurrent.futures.wait", "concurrent.futures.as_completed",
                                               "builtins.len")
    return isinstance(parent, (ast.For, ast.comprehension)) and parent.iter is use and file.frame(use) is owner


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
    said = f"{dotted(taken) or file.source(taken.func)}.result() waits on the event loop's thread"
    said = said if dotted(taken) else f"{file.source(taken.func)}(...).result() waits on the event loop's thread"
    late = limit is not None and not (isinstance(limit, ast.Constant) and limit.value is None)
    reason = LATE if late else obstacle(file, node)
    if reason:
        return Found(node, f"{said}, but {reason}", refused=True)
    before, after = wrap(file, node)
    edits = (*before, Edit(file.start(node), file.start(node), f"await {WRAP}("),
             Edit(file.end(taken), file.end(node), ")"), *after)
    return Found(node, f"{said}; it becomes `await {WRAP}(...)`", edits, reach(file, node, "asyncio"))


def finished(file: File, node: ast.Call, taken: ast.expr, owner: ast.AST) -> bool:
    """Whether something has waited for the future by then: `wait`, or the exit of the executor it was given to."""
    names, made = origin(file, taken)
    pools = {dotted(call.func.value) for call in made if isinstance(call.func, ast.Attribute)}
    for each in file.run_by(owner):
        if not isinstance(each, (ast.Call, ast.With)) or file.start(each) >= file.start(node):
            continue
        if isinstance(each, ast.With):
            left = file.end(each) <= file.start(node) and any(executor(file, item.context_expr) for item in each.items)
            if left and any(each in file.above(call) for call in made):
                return True
        elif file.qualified(each.func) == "concurrent.futures.wait":
            if any(isinstance(inner, ast.Name) and inner.id in names for inner in walk(each)):
                return True
        elif dotted(each.func) in {f"{pool}.shutdown" for pool in pools}:
            return True
    return False


def origin(file: File, taken: ast.expr) -> tuple[set[str], list[ast.Call]]:
    """The names that a future goes by, its list's included, and the calls that gave it."""
    names, calls, todo = set(), [], [taken] if isinstance(taken, ast.Name) else []
    while todo:
        name = todo.pop()
        names.add(name.id)
        for item in file.lookup(name, name.id)[1]:
            loop = file.parent(item.node)
            source = loop.iter if isinstance(loop, (ast.For, ast.comprehension)) else item.value
            calls += [part for part in walk(source) if starts(file, part)] if source is not None else []
            todo += [source] if isinstance(source, ast.Name) and source.id not in names else []
        for use in file.uses(name):
            call = file.parent(file.parent(use))
            if isinstance(file.parent(use), ast.Attribute) and file.parent(use).attr == "append" and isinstance(call, ast.Call):
                calls += [part for part in walk(call) if part is not call and starts(file, part)]
    return names, calls


def waited(file: File, node: ast.Call) -> Found | None:
    """`concurrent.futures.wait(jobs)`."""
    owner = file.coroutine(node)
    if not node.args or not futures(file, node.args[0], owner):
        return None
    said = "concurrent.futures.wait() waits on the event loop's thread"
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
    if not node.args or not futures(file, node.args[0], owner):
        return None
    said = "as_completed() of concurrent.futures waits on the event loop's thread"
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
        reason = reason or obstacle(file, spot)
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
    said = f"{file.source(node.func)}({file.source(call.func)}(...)) waits on the event loop's thread"
    reason = obstacle(file, node)
    plain = len(call.args) == 2 and not call.keywords and not any(isinstance(each, ast.Starred) for each in call.args)
    if not plain or file.source(node.func) != "list":
        reason = "only `list` of a map with one iterable is rewritten: gather wrapped futures by hand"
    if reason:
        return Found(node, f"{said}, but {reason}", refused=True)
    pool, (work, items), each = file.source(call.func.value), map(file.source, call.args), fresh(file, "item")
    if not isinstance(call.args[0], ast.Lambda) and not dotted(call.args[0]):
        return Found(node, f"{said}, but the function is computed there: give it a name first", refused=True)
    new = f"await asyncio.gather(*[{WRAP}({pool}.submit({work}, {each})) for {each} in {items}])"
    before, after = wrap(file, node)
    edits = (*before, Edit(file.start(node), file.end(node), new), *after)
    return Found(node, f"{said}; it becomes `await asyncio.gather(...)`", edits, reach(file, node, "asyncio"))


def fresh(file: File, name: str) -> str:
    """A name that the file uses nowhere."""
    taken = {each for scope in (file.scopes.module, *file.scopes.opened.values()) for each in scope.names}
    taken |= set(file.scopes.reads)
    return next(each for each in (name, *(f"{name}_{count}" for count in range(1, 999))) if each not in taken)
