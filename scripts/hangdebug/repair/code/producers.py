"""Work that nothing awaits, but that sends what it has to an asyncio.Queue which the coroutine awaits.

    executor.submit(produce, queue, loop)
    while (item := await queue.get()) is not None:
        yield item

The block ends normally only by what `produce` sent, so the work has begun by then and nothing queued is
dropped. That holds where the queue is made in this file for this one piece of work: whatever else touches it
(a second producer, a heartbeat, the caller) might end the block while the work is still queued. An
asyncio.Event that the work sets, and an asyncio future that it resolves, say the same.
"""

from __future__ import annotations

import ast

from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.await_places import import_needed
from hangdebug.repair.code.bindings import COMPREHENSIONS, Binding, walk
from hangdebug.repair.code.executors import assigned_value
from hangdebug.repair.code.file import File, dotted, fresh_name, is_zero
from hangdebug.repair.code.work_path import arguments
from hangdebug.repair.code.work_waits import (
    FUNCTION,
    LOOPS,
    Function,
    Judgement,
    Trail,
    Work,
    loops_around,
    note_wait,
    verb_of,
)
from hangdebug.repair.model import Edit

RECEIVES = {
    "asyncio.Queue": "get",
    "asyncio.LifoQueue": "get",
    "asyncio.PriorityQueue": "get",
    "asyncio.Event": "wait",
    "asyncio.Future": "",
}
THREADS = frozenset(f"queue.{name}" for name in ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"))
READS = frozenset("get get_nowait empty full qsize maxsize task_done wait is_set done result".split())
FILLED = frozenset("list dict set bytearray deque defaultdict Counter OrderedDict BytesIO StringIO".split())
DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
STARTS = ("submit", "run_in_executor")
LOGS = {"log", "logger", "logging", "print"}
CHANGES = (
    ast.AugAssign,
    ast.With,
    ast.AsyncWith,
    ast.Delete,
    ast.Global,
    ast.Nonlocal,
    ast.Yield,
    ast.YieldFrom,
    ast.Await,
)


def sends_the_end(trail: Trail, work: Work) -> bool:
    """Whether the coroutine gets to the exit only by what this work sends."""
    call = work.node
    if trail.file.frame(call) is not trail.owner or not isinstance(call, ast.Call) or verb_of(call) not in STARTS:
        return False  # a nested function starts it, perhaps many times
    parts = parts_of_work(trail.file, call)
    left = why_filled_after(trail, parts)
    if left:
        trail.notes[work] = left
        return False
    for item in channels_of(trail.file, parts):
        uses, receives = uses_outside(trail.file, item, parts), RECEIVES.get(maker_of(trail.file, item))
        for use in uses if receives is not None and is_only_sender(trail, work, item, parts, uses) else ():
            wait = await_of_item(trail.file, use, receives or "")
            loops = loops_around(trail, wait) - set(trail.file.above(call)) if wait else set()
            if wait and not any(isinstance(loop, (ast.For, ast.AsyncFor)) for loop in loops):
                note_wait(trail, work, wait)  # a `for` may have no round, and end before the work has begun
    return work in trail.awaited


def note_thread_queues(trail: Trail, work: Work) -> None:
    """Note each `.get()` of a queue of threads in the coroutine, where it never asks if that is empty."""
    file, parts = trail.file, parts_of_work(trail.file, work.node)
    for item in (each for each in channels_of(file, parts) if maker_of(file, each) in THREADS):
        uses = uses_outside(file, item, parts)
        if any(file.method_call(use, "empty", "qsize") for use in uses):
            continue
        for call in filter(None, (file.method_call(use, "get") for use in uses)):
            if not any(map(is_zero, arguments(call))):
                trail.blocked[work, call] = "get() of a thread's queue waits"


def parts_of_work(file: File, call: ast.expr) -> list[ast.AST]:
    """The call and the local functions that it hands over, those included that they call in turn."""
    parts: list[ast.AST] = [call]
    for part in parts:
        for name in names_in(part):
            homes = [item.node for item in file.lookup(name, name.id)[1] if isinstance(item.node, FUNCTION)]
            parts += [each for each in homes if each not in parts and isinstance(file.frame(each), FUNCTION)]
    return parts


def names_in(node: ast.AST) -> list[ast.Name]:
    return [each for each in walk(node) if isinstance(each, ast.Name)]


def channels_of(file: File, parts: list[ast.AST]) -> list[Binding]:
    """What the work reads and a function binds at one place, each once."""
    found: list[Binding] = []
    for name in (each for part in parts for each in names_in(part)):
        bound = file.lookup(name, name.id)[1]
        if len(bound) == 1 and isinstance(bound[0].node, ast.Name) and bound[0] not in found:
            found += bound if isinstance(file.frame(bound[0].node), FUNCTION) else []
    return found


def maker_of(file: File, item: Binding) -> str:
    """What made the value, as "asyncio.Queue", or ""."""
    value = assigned_value(file, item)
    if not isinstance(value, ast.Call):
        return ""
    return "asyncio.Future" if verb_of(value) == "create_future" else file.qualified(value.func)


def why_filled_after(trail: Trail, parts: list[ast.AST]) -> str:
    """What the work fills and the coroutine reads after the exit, in words: there the exit has to wait."""
    file = trail.file
    for item in channels_of(file, parts):
        value = assigned_value(file, item)
        made = dotted(value.func).split(".")[-1] if isinstance(value, ast.Call) else ""
        late = [use for use in uses_outside(file, item, parts) if file.start(use) >= trail.end]
        if late and (isinstance(value, DISPLAYS) or made in FILLED):
            return f"line {late[0].lineno} reads `{dotted(item.node)}` after the exit, and it may fill that still"
    rebinds = any(isinstance(each, ast.Nonlocal) for part in parts for each in walk(part))
    return "it binds a name of the function around it" if rebinds else ""


def uses_outside(file: File, item: Binding, parts: list[ast.AST]) -> list[ast.expr]:
    """The places that read the name, those of the work itself left out."""
    return [use for use in file.uses(item.node) if not {use, *file.above(use)}.intersection(parts)]


def is_only_sender(trail: Trail, work: Work, item: Binding, parts: list[ast.AST], uses: list[ast.expr]) -> bool:
    """Whether only this work, started once for each time the queue is made, can put anything into it."""
    file, around = trail.file, set(trail.file.above(item.node))
    calls = [use for part in parts if isinstance(part, FUNCTION) for use in file.uses(part)]
    elsewhere = [use for use in calls if not set(file.above(use)).intersection(parts)]
    repeated = [up for up in file.above(work.node) if isinstance(up, (*LOOPS, *COMPREHENSIONS)) and up not in around]
    return not elsewhere and not repeated and all(only_takes(trail, use) for use in uses)


def only_takes(trail: Trail, use: ast.expr) -> bool:
    """Whether the coroutine itself only takes from it there, and before the exit."""
    file, parent = trail.file, trail.file.parent(use)
    taken = (isinstance(parent, ast.Attribute) and parent.attr in READS) or await_of(file, use) is not None
    return taken and file.frame(use) is trail.owner and file.start(use) < trail.end


def await_of_item(file: File, use: ast.expr, method: str) -> ast.Await | None:
    """The `await` that ends only when the work has sent something: of the method, or of the object itself."""
    if not method:
        return await_of(file, use)
    call = file.method_call(use, method)
    return await_of(file, call) if call else None


def await_of(file: File, node: ast.expr) -> ast.Await | None:
    """The `await` of `node` or of `asyncio.wait_for(node, ...)`."""
    parent = file.parent(node)
    if isinstance(parent, ast.Call) and verb_of(parent) == "wait_for" and node in parent.args[:1]:
        parent = file.parent(parent)
    return parent if isinstance(parent, ast.Await) else None


# -- a producer that ends when the coroutine leaves ---------------------------------------------------------


@dataclass(frozen=True)
class Stop:
    """The event's name, the loops that look at it, and the lines of the work that it ends before the next item.

    `ends` are the lines of other work that it ends, `limits` those of calls that get a time-out with
    the keyword for it, `waits` those of calls that go without, `fills` those that give nothing before many bytes
    have come, `edits` all of that.
    """

    name: str = ""
    loops: tuple[ast.For | ast.AsyncFor | ast.While, ...] = ()
    lines: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    limits: tuple[tuple[int, str], ...] = ()
    waits: tuple[int, ...] = ()
    fills: tuple[int, ...] = ()
    edits: tuple[Edit, ...] = ()


def find_stop(file: File, owner: ast.AsyncFunctionDef, judgement: Judgement) -> Stop:
    """What the exit of an executor can stop: work that the coroutine gets items from, if it is a function here."""
    if not judgement.unwaited or import_needed(file, owner.body[0], "threading") is None:
        return Stop()
    feeds = {
        call.lineno: loops
        for call in file.calls
        if call.lineno in judgement.unwaited and verb_of(call) in STARTS and file.frame(call) is owner
        for loops in [sending_loops(file, owner, call)]
        if loops
    }
    loops = tuple({loop: None for each in feeds.values() for loop in each})
    return Stop(fresh_name(file, "stop"), loops, tuple(feeds)) if loops else Stop()


def sending_loops(file: File, owner: ast.AsyncFunctionDef, call: ast.Call) -> list[ast.For | ast.AsyncFor | ast.While]:
    """The loops of the one function that the call hands over, if these send to the queue of the coroutine."""
    home = function_handed(file, call)
    if home is None or file.frame(home) is not owner or len(file.uses(home)) != 1:
        return []
    parts = parts_of_work(file, call)
    sent = {dotted(item.node) for item in channels_of(file, parts)}
    sent |= {part.name for part in parts if isinstance(part, FUNCTION) and part is not home}
    if not only_sends(home, sent):
        return []
    inner = [each for each in file.run_by(home) if isinstance(each, LOOPS)]
    return [
        each
        for each in inner
        if not any(up in inner for up in file.above(each))
        and not each.orelse
        and each.body[0].lineno > file.line_of(file.colon(each))
        and sent & {name.id for line in each.body for name in names_in(line)}
    ]


def only_sends(home: Function, sent: set[str]) -> bool:
    """Whether each statement sends, logs, or works on names of the function alone."""
    for node in (each for line in home.body for each in walk(line)):
        if isinstance(node, CHANGES):
            return False
        if isinstance(node, ast.Assign) and not all(isinstance(each, (ast.Name, ast.Tuple)) for each in node.targets):
            return False
        used = {getattr(each, "id", getattr(each, "attr", "")) for each in walk(node)}
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not used & (sent | LOGS):
            return False
    return True


def handed(call: ast.Call) -> ast.expr | None:
    """What the call gives to the executor to run."""
    starred = any(isinstance(each, ast.Starred) for each in call.args[:2])
    given = call.args[1:2] if verb_of(call) == "run_in_executor" else call.args[:1]
    return given[0] if given and not starred else None


def function_handed(file: File, call: ast.Call) -> ast.FunctionDef | None:
    """The plain function of the file, or the method of the class around, that the call gives to the executor."""
    given = handed(call)
    if isinstance(given, ast.Attribute) and dotted(given.value) == "self":
        owner = file.home(given)
        found: list[ast.AST] = [each for each in owner.body if getattr(each, "name", "") == given.attr] if owner else []
    else:
        found = [item.node for item in file.lookup(given, given.id)[1]] if isinstance(given, ast.Name) else []
    home = found[0] if len(found) == 1 else None
    return home if isinstance(home, ast.FunctionDef) else None
