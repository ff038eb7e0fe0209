"""Whether something has waited for a future already, and what is refused: a map() that something drains, for one."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hangdebug.repair.code.bindings import walk
from hangdebug.repair.code.executors import is_executor
from hangdebug.repair.code.file import File, dotted, is_none, is_zero
from hangdebug.repair.code.findings import Found
from hangdebug.repair.code.receivers import function_called, what_is

STOPS = "it may raise StopIteration, which no future of asyncio can hold: the await would never end"
OTHER_CANCEL = "and asyncio raises another class there, which `except Exception` does not catch"
CANCELLED = ("concurrent.futures.CancelledError", "concurrent.futures._base.CancelledError", "concurrent.futures.Error")
DRAINS = frozenset(
    f"builtins.{name}" for name in "list tuple set frozenset dict sum sorted min max any all next".split()
)
LAZY = frozenset(f"builtins.{name}" for name in "zip enumerate iter map filter".split())
MAP = "only `list` of a map with one iterable is rewritten: gather wrapped futures by hand"
BY_HAND = (
    "what its futures are, or what else is done with them, is not plain here: use asyncio.{}() over wrapped "
    "futures by hand"
)


def is_done_by_then(file: File, node: ast.Call, taken: ast.expr, owner: ast.AST) -> bool:
    """Whether something has waited for the future by then: `wait`, or the exit of the executor it was given to."""
    names, made = trace_back(file, taken)
    pools = {dotted(call.func.value) for call in made if isinstance(call.func, ast.Attribute)}
    for each in file.run_by(owner):
        if not isinstance(each, (ast.Await, ast.Call, ast.With)) or file.start(each) >= file.start(node):
            continue
        if isinstance(each, ast.With):
            left = file.end(each) <= file.start(node) and any(
                is_executor(file, item.context_expr) for item in each.items
            )
            if left and any(each in file.above(call) for call in made):
                return True
        elif isinstance(each, ast.Await):
            if settles(file, each.value, names):
                return True
        elif file.qualified(each.func) == "concurrent.futures.wait" and not may_return_early(file, each):
            if any(isinstance(inner, ast.Name) and inner.id in names for inner in walk(each)):
                return True
        elif joins(each, pools) or dotted(each.func) in {f"{name}.exception" for name in names}:
            return True
    return False


def joins(call: ast.Call, pools: set[str]) -> bool:
    """Whether the call shuts one of the executors down and waits, itself or in a thread."""
    names = {f"{pool}.shutdown" for pool in pools if pool}
    given = [each.value for each in call.keywords if each.arg == "wait"] + call.args
    patient = not any(isinstance(each, ast.Constant) and not each.value for each in given)
    return patient and (dotted(call.func) in names or any(dotted(each) in names for each in call.args))


def may_return_early(file: File, wait: ast.Call) -> bool:
    """Whether it may return before all are done: a timeout, or the first of them is enough."""
    limits = [*wait.args[1:], *(each.value for each in wait.keywords if each.arg != "fs")]
    return any(dotted(each).split(".")[-1] != "ALL_COMPLETED" and not is_none(each) for each in limits)


def settles(file: File, awaited: ast.expr, names: set[str]) -> bool:
    """Whether an await of `gather`, `wait` or `wrap_future` ends only when the named futures are done, lists whole."""
    name = file.qualified(awaited.func) if isinstance(awaited, ast.Call) else ""
    if not isinstance(awaited, ast.Call) or name not in ("asyncio.gather", "asyncio.wait", "asyncio.wrap_future"):
        return False
    if name == "asyncio.wait" and (len(awaited.args) > 1 or awaited.keywords):
        return False  # a timeout, or the first of them is enough
    return any(
        isinstance(part, ast.Name) and not isinstance(file.parent(part), ast.Subscript) and names & sources(file, part)
        for part in walk(awaited)
    )


def sources(file: File, node: ast.Name) -> set[str]:
    """The lists that the variable of a loop is drawn from; the name itself where it is no such variable."""
    loops = [file.parent(item.node) for item in file.lookup(node, node.id)[1] if file.scopes.parent(item.node)]
    drawn_from = [loop.iter for loop in loops if isinstance(loop, (ast.For, ast.comprehension))]
    return {each.id for each in drawn_from if isinstance(each, ast.Name)} if drawn_from else {node.id}


def trace_back(file: File, taken: ast.expr) -> tuple[set[str], list[ast.Call]]:
    """The names that a future goes by, its list's included, and the calls that gave it."""
    taken = taken.value if isinstance(taken, ast.Subscript) else taken
    names: set[str] = set()
    calls: list[ast.Call] = []
    todo = [taken] if isinstance(taken, ast.Name) else []
    while todo:
        name = todo.pop()
        names.add(name.id)
        for item in file.lookup(name, name.id)[1]:
            loop = file.parent(item.node)
            loop = file.parent(loop) if isinstance(loop, ast.Tuple) else loop
            source = loop.iter if isinstance(loop, (ast.For, ast.comprehension)) else item.value
            func = source.func if isinstance(source, ast.Call) else None
            if (
                isinstance(func, ast.Attribute)
                and func.attr in ("items", "values")
                and isinstance(func.value, ast.Name)
            ):
                source = func.value
            calls += futures_started(file, source) if source is not None else []
            todo += [source] if isinstance(source, ast.Name) and source.id not in names else []
        for call in filter(None, (file.method_call(use, "append") for use in file.uses(name))):
            calls += [each for given in call.args for each in futures_started(file, given)]
    return names, calls


def futures_started(file: File, node: ast.AST) -> list[ast.Call]:
    return [part for part in walk(node) if isinstance(part, ast.Call) and starts_future(file, part)]


def find_drained(file: File, call: ast.Call) -> Iterator[Found]:
    """Each place that waits for the results of `pool.map(...)`, but `list` and `tuple` of the call itself."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr != "map" or not is_executor(file, call.func.value):
        return
    parent = file.parent(call)
    if isinstance(parent, ast.Call) and file.qualified(parent.func) in ("builtins.list", "builtins.tuple"):
        return
    places: list[ast.expr] = [call]
    target = parent.targets[0] if isinstance(parent, ast.Assign) and len(parent.targets) == 1 else None
    if isinstance(target, ast.Name) and len(file.lookup(target, target.id)[1]) == 1:
        places = [use for use in file.uses(target) if file.frame(use) is file.frame(call)]
    for place in places:
        words = what_drains(file, place)
        if words and not waited_for_by_exit(file, place, call.func.value):
            said = f"{words} {file.short(call.func)}(...) waits for its results on the event loop's thread"
            yield Found(place, f"{said}, but {MAP}", refused=True)


def what_drains(file: File, node: ast.expr) -> str:
    """What draws all that the iterator gives, or the next of it; "" where nothing does."""
    parent = file.parent(node)
    if isinstance(parent, ast.Starred):
        return "unpacking"
    if isinstance(parent, ast.Assign) and isinstance(parent.targets[0], (ast.Tuple, ast.List)):
        return "unpacking"
    if isinstance(parent, ast.For) and parent.iter is node:
        return "the loop over"
    if isinstance(parent, ast.comprehension) and parent.iter is node:
        around = file.parent(parent)
        return what_drains(file, around) if isinstance(around, ast.GeneratorExp) else "the comprehension over"
    if not isinstance(parent, ast.Call) or node is parent.func:
        return ""
    name = file.qualified(parent.func)
    return what_drains(file, parent) if name in LAZY else f"{name.split('.')[-1]}() of" if name in DRAINS else ""


def waited_for_by_exit(file: File, node: ast.expr, pool: ast.expr) -> bool:
    """Whether the executor's own rule reports the place (it stands in the block), or an exit has waited by then."""
    for up in file.above(node):
        if isinstance(up, ast.With) and any(is_executor(file, item.context_expr) for item in up.items):
            return True
    return any(
        (isinstance(each, ast.With) and any(is_executor(file, item.context_expr) for item in each.items))
        or (isinstance(each, ast.Call) and joins(each, {dotted(pool)}))
        for each in file.run_by(file.frame(node))
        if isinstance(each, (ast.With, ast.Call)) and file.end(each) <= file.start(node)
    )


def polls(node: ast.Call) -> bool:
    """Whether `wait(jobs, timeout=0)` only looks."""
    return any(map(is_zero, (*node.args[1:2], *(each.value for each in node.keywords if each.arg == "timeout"))))


def why_cancelling_differs(file: File, taken: ast.expr) -> str:
    """Why a future is not awaited that the function cancels, or that may raise what asyncio cannot, else ""."""
    names, made = trace_back(file, taken)
    made += [taken] if isinstance(taken, ast.Call) else []
    if any(each.args and file.qualified(each.args[0]) == "builtins.next" for each in made):
        return STOPS
    pools = {dotted(call.func.value) for call in made if isinstance(call.func, ast.Attribute)}
    for each in file.run_by(file.frame(taken)):
        if isinstance(each, ast.Call) and drops_queued(each, pools) and file.start(each) < file.start(taken):
            return f"line {each.lineno} may cancel it, {OTHER_CANCEL}"
        if isinstance(each, ast.Attribute) and each.attr == "cancel":
            base = each.value.value if isinstance(each.value, ast.Subscript) else each.value
            if isinstance(base, ast.Name) and (base.id in names or sources(file, base) & names):
                return f"line {each.lineno} may cancel it, {OTHER_CANCEL}"
    for up in file.above(taken):
        for handler in up.handlers if isinstance(up, ast.Try) else ():
            kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
            if any(kind is not None and file.qualified(kind) in CANCELLED for kind in kinds):
                return f"line {handler.lineno} catches its CancelledError, {OTHER_CANCEL}"
            if any(kind is not None and file.qualified(kind) == "builtins.StopIteration" for kind in kinds):
                return STOPS
    return ""


def drops_queued(call: ast.Call, pools: set[str]) -> bool:
    """Whether the call shuts one of the executors down and cancels what it has not begun."""
    said = [each.value for each in call.keywords if each.arg == "cancel_futures"]
    return dotted(call.func) in {f"{pool}.shutdown" for pool in pools if pool} and any(
        not is_zero(each) for each in said
    )


def refuse_unknown(file: File, node: ast.Call, said: str) -> Iterator[Found]:
    """`wait(jobs)` and `as_completed(jobs)` of concurrent.futures, whose jobs are not plain."""
    taken = node.args[0]
    if not waited_for_by_exit(file, node, taken) and not is_done_by_then(file, node, taken, file.frame(node)):
        verb = file.qualified(node.func).split(".")[-1]
        yield Found(node, f"{said}, but {BY_HAND.format(verb)}", refused=True)


# -- what a future is ----------------------------------------------------------------------------------

READS = ("result", "exception", "cancel")
ASKS = ("done", "running", "add_done_callback")


def starts_future(file: File, node: ast.AST | None) -> bool:
    """Whether the expression is a call that gives a concurrent future."""
    if not isinstance(node, ast.Call):
        return False
    if file.qualified(node.func) == "asyncio.run_coroutine_threadsafe":
        return True
    return submits(file, node) or returns_future(file, node)


def returns_future(file: File, node: ast.Call) -> bool:
    """Whether the call is one of a function of the tree that hands work over, and keeps no future of it."""
    found = function_called(file, node)
    if found is None or found[1].decorator_list:
        return False
    there, home = found
    ends = [each for each in there.run_by(home) if isinstance(each, (ast.Return, ast.Yield, ast.YieldFrom))]
    values = [each.value for each in ends if isinstance(each, ast.Return)]
    return len(values) == len(ends) > 0 and all(submits(there, value) for value in values)


def submits(file: File, node: ast.AST | None) -> bool:
    func = node.func if isinstance(node, ast.Call) else None
    return isinstance(func, ast.Attribute) and func.attr == "submit" and is_executor(file, func.value)


def is_future(file: File, node: ast.expr, owner: ast.AST) -> bool:
    """Whether the expression is such a call, or a local name for nothing but such futures, each used as one."""
    if starts_future(file, node):
        return True
    if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
        return is_mapping(file, node.value, owner) or (
            are_futures(file, node.value, owner) and not is_keyed(file, node.value)
        )
    if not isinstance(node, ast.Name) or not file.owned_by(node, owner):
        return False
    bound = [item.node for item in file.lookup(node, node.id)[1]]
    known = all(starts_future(file, value) for value in file.values(node)) or all(
        is_drawn(file, each, owner) for each in bound
    )
    return bool(bound) and known and all(uses_as_future(file, use, owner) for use in file.uses(node))


def is_drawn(file: File, target: ast.AST, owner: ast.AST) -> bool:
    """Whether the name is the variable of a loop over a list of such futures."""
    loop, place = file.parent(target), 0
    several = loop if isinstance(loop, ast.Tuple) else None
    if several is not None and isinstance(target, ast.expr):
        loop, place, target = file.parent(several), several.elts.index(target), several
    if not isinstance(loop, (ast.For, ast.comprehension)) or loop.target is not target:
        return False
    func = loop.iter.func if isinstance(loop.iter, ast.Call) and not loop.iter.args else None
    if isinstance(func, ast.Attribute):  # for key, job in jobs.items()
        pair = several is not None and len(several.elts) == 2 and place == 1
        return func.attr == ("items" if pair else "values") and is_mapping(file, func.value, owner)
    if several is not None:
        return isinstance(loop.iter, ast.Name) and holds_futures(file, loop.iter, place, owner)
    return are_futures(file, loop.iter, owner)


def holds_futures(file: File, node: ast.Name, place: int, owner: ast.AST) -> bool:
    """Whether the list holds nothing but tuples with such a future at the place: `jobs.append((url, submit(url)))`."""
    if not file.owned_by(node, owner):
        return False
    filled = [each for each in file.filled(node) if each is not None]
    tuples = [each for each in filled if isinstance(each, ast.Tuple) and len(each.elts) > place]
    uses = [file.parent(use) for use in file.uses(node)]
    loops = [each for each in uses if isinstance(each, (ast.For, ast.comprehension))]
    plain = all(each in loops or getattr(each, "attr", "") == "append" for each in uses)
    return (
        len(tuples) == len(filled) > 0
        and plain
        and all(starts_future(file, each.elts[place]) for each in tuples)
        and all(never_asks(file, each, owner) for each in loops)
    )


def is_mapping(file: File, node: ast.expr, owner: ast.AST) -> bool:
    """Whether the expression is a local name for a dictionary whose values are such futures, used for nothing else."""
    if not isinstance(node, ast.Name) or not file.owned_by(node, owner):
        return False
    values = file.values(node)
    made = [
        (isinstance(value, ast.DictComp) and starts_future(file, value.value))
        or (isinstance(value, ast.Dict) and all(starts_future(file, each) for each in value.values))
        for value in values
    ]
    return (
        bool(made)
        and all(made)
        and all(uses_as_mapping(file, use, owner) for use in file.uses(node))
        and not (any(isinstance(value, ast.Dict) and not value.values for value in values))
    )


def uses_as_mapping(file: File, use: ast.expr, owner: ast.AST) -> bool:
    up = file.parent(use)
    if isinstance(up, ast.Subscript):
        return isinstance(up.ctx, ast.Load) and getattr(file.parent(up), "attr", "") in READS
    loop = file.parent(file.parent(up)) if isinstance(up, ast.Attribute) and up.attr in ("items", "values") else up
    if isinstance(loop, (ast.For, ast.comprehension)):
        return never_asks(file, loop, owner)
    return isinstance(up, ast.Call) and file.qualified(up.func) in ("builtins.len", "builtins.list")


def is_keyed(file: File, node: ast.expr) -> bool:
    """Whether the futures are the keys of a dictionary, so that a subscript gives something else."""
    return any(isinstance(value, (ast.Dict, ast.DictComp)) for value in file.values(node))


def are_futures(file: File, node: ast.expr, owner: ast.AST) -> bool:
    """Whether the expression is a list of such futures, or a local name for one that is used for nothing else."""
    if isinstance(node, ast.Call) and file.qualified(node.func) in ("builtins.list", "builtins.tuple") and node.args:
        return isinstance(node.args[0], (ast.GeneratorExp, ast.ListComp)) and starts_future(file, node.args[0].elt)
    if isinstance(node, (ast.ListComp, ast.SetComp)):
        return starts_future(file, node.elt)
    if isinstance(node, (ast.List, ast.Set, ast.Tuple)):
        return all(starts_future(file, each) for each in node.elts)
    if isinstance(node, ast.DictComp):
        return starts_future(file, node.key)
    if not isinstance(node, ast.Name) or not file.owned_by(node, owner):
        return False
    values = file.values(node)
    made = bool(values) and all(
        value is not None and not isinstance(value, ast.Name) and are_futures(file, value, owner) for value in values
    )
    return made and all(uses_as_list(file, use, owner) for use in file.uses(node)) and is_filled(file, node)


def is_filled(file: File, node: ast.Name) -> bool:
    """An empty list has to get its futures from an append."""
    empty = [value for value in file.values(node) if isinstance(value, ast.List) and not value.elts]
    return not empty or any(file.method_call(use, "append") for use in file.uses(node))


def uses_as_future(file: File, use: ast.expr, owner: ast.AST) -> bool:
    """Whether the use only reads the result, or puts the future into a list."""
    parent = file.parent(use)
    if isinstance(parent, ast.Attribute):
        return parent.attr in READS and file.frame(use) is owner
    return isinstance(parent, ast.Call) and isinstance(parent.func, ast.Attribute) and parent.func.attr == "append"


def uses_as_list(file: File, use: ast.expr, owner: ast.AST) -> bool:
    parent = file.parent(use)
    if isinstance(parent, ast.Subscript):
        return isinstance(parent.ctx, ast.Load) and getattr(file.parent(parent), "attr", "") in READS
    if isinstance(parent, ast.Attribute) and parent.attr == "append":
        call = file.parent(parent)
        given = call.args[0] if isinstance(call, ast.Call) and call.args else None
        named = isinstance(given, ast.Name) and all(starts_future(file, value) for value in file.values(given))
        return starts_future(file, given) or named
    if isinstance(parent, ast.Call):
        takes = ("concurrent.futures.wait", "concurrent.futures.as_completed", "builtins.len")
        return file.qualified(parent.func) in takes or (use in parent.args and reads_each(file, parent))
    return isinstance(parent, (ast.For, ast.comprehension)) and parent.iter is use and never_asks(file, parent, owner)


def reads_each(file: File, node: ast.Call) -> bool:
    """Whether it is a `map()` that reads the result of each future: by a lambda, or `Future.result` itself."""
    if file.qualified(node.func) != "builtins.map" or len(node.args) != 2 or node.keywords:
        return False
    work = node.args[0]
    body = work.body if isinstance(work, ast.Lambda) else None
    if isinstance(body, ast.Call) and isinstance(work, ast.Lambda) and len(work.args.args) == 1:
        plain = not (body.args or body.keywords or work.args.defaults or work.args.vararg or work.args.kwarg)
        return plain and dotted(body.func) == f"{work.args.args[0].arg}.result"
    return file.qualified(work) == "concurrent.futures.Future.result"


def never_asks(file: File, loop: ast.For | ast.comprehension, owner: ast.AST) -> bool:
    """Whether a loop over futures runs in the coroutine, and never asks whether they are done: then they may be."""
    drawn_names = {part.id for part in walk(loop.target) if isinstance(part, ast.Name)}
    body = file.parent(loop) if isinstance(loop, ast.comprehension) else loop
    asks = any(
        isinstance(each, ast.Attribute) and each.attr in ASKS and dotted(each.value) in drawn_names
        for each in walk(body)
    )
    return file.frame(loop.iter) is owner and not asks


def is_kept_future(file: File, node: ast.expr) -> bool:
    """Whether it is a future that others may hold too, of which this function never asks whether it is done."""
    known, kept = what_is(file, node).trail, list_drawn_from(file, node)
    if known != "concurrent.futures.Future()" and not known.endswith("PoolExecutor().submit()") and not kept:
        return False
    name, frame = kept or dotted(node), file.frame(node)
    if isinstance(node, ast.Name) and not all(uses_as_future(file, use, frame) for use in file.uses(node)):
        return False  # it is handed on, to what may wait for it
    for each in file.run_by(frame):
        if isinstance(each, ast.Attribute) and each.attr in ASKS and dotted(each.value) == name:
            return False
        awaits = isinstance(each, ast.Await) and file.start(each) < file.start(node) and not is_fresh(file, node)
        if awaits and (not name or any(dotted(part) == name for part in walk(each))):
            return False
    return True


def is_fresh(file: File, node: ast.expr) -> bool:
    """Whether it is a call of a function of the tree that makes the future that it returns."""
    found = function_called(file, node) if isinstance(node, ast.Call) else None
    if found is None:
        return False
    there, home = found
    values = [each.value for each in there.run_by(home) if isinstance(each, ast.Return)]
    made = [there.values(each) if isinstance(each, ast.Name) else [] for each in values]
    names = [there.qualified(one.func) for some in made for one in some if isinstance(one, ast.Call)]
    return bool(names) and all(made) and set(names) == {"concurrent.futures.Future"}


def list_drawn_from(file: File, node: ast.expr) -> str:
    """The attribute that holds the list of the loop's variable, if the class appends nothing but futures to it."""
    bound = file.lookup(node, node.id)[1] if isinstance(node, ast.Name) else []
    loop = file.parent(bound[0].node) if len(bound) == 1 else None
    listed = loop.iter if isinstance(loop, (ast.For, ast.comprehension)) and loop.target is bound[0].node else None
    if not isinstance(listed, ast.Attribute):
        return ""
    holder = what_is(file, listed.value)
    if holder.file is None or not isinstance(holder.node, ast.ClassDef):
        return ""
    adds = f"self.{listed.attr}.append"
    calls = [each for each in walk(holder.node) if isinstance(each, ast.Call) and dotted(each.func) == adds]
    futures = bool(calls) and all(each.args and submits(holder.file, each.args[0]) for each in calls)
    return dotted(listed) if futures else ""
