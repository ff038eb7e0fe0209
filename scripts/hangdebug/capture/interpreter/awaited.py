"""What a suspended task waits for, what it is inside of, and whether a timeout watches over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from hangdebug.capture.interpreter.coroutines import Call, Chain, suspended_call
from hangdebug.capture.interpreter.layout import TASK_LISTS_SINCE
from hangdebug.capture.interpreter.memory import Unreadable
from hangdebug.capture.interpreter.objects import FIRST, Objects
from hangdebug.evidence.frames import is_application, library_path
from hangdebug.evidence.libraries import PRIMITIVES, TIMED_WAITS
from hangdebug.evidence.model import Awaited

ANYIO_BACKEND = "anyio/_backends/_asyncio.py"
GENERATORS = ("async_generator", "generator")
MOST_SEEN = 200
FUNCTION_NAME, LATER_NAME, EXITS = {(3, 9): 64}, 32, ("__exit__", "__aexit__")
# asyncio.shield() hangs this function on its outer future, with the inner one in its closure.
OUTER_DONE, CALLBACK_BEFORE, CLOSURE, LATER_CLOSURE = "_outer_done_callback", 24, {(3, 9): 48}, 72
STACKS = ("AsyncExitStack", "ExitStack")
MOST_TASKS_BEHIND, MOST_MANAGERS = 1000, 3
# What a server knows of a request whose handler waits in one of its functions: whether more of the body is to come.
SERVERS_FACTS = {"RequestResponseCycle": ("more_body",)}
# Where a server keeps whether it has sent the head of an answer: the function that serves a request, in which of its
# first locals, by which attributes, down to a number, and what that is more than then.
HEAD_SENT = {
    ("uvicorn/protocols/http/", "run_asgi"): (0, ("response_started",), 0),
    ("tornado/web.py", "_execute"): (0, ("_headers_written",), 0),
    ("aiohttp/web_protocol.py", "_handle_request"): (1, ("_payload_writer", "output_size"), 0),
    ("sanic/http/http1.py", "http1"): (0, ("stage", "_value_"), 3),
}
LOCKS = frozenset("Lock Semaphore BoundedSemaphore Condition CapacityLimiter".split())
# What a count is called here, and the attribute that holds it: a number, or something that has a length.
COUNTS = {
    "Lock": {"locked": "_locked", "owned": "_owner_task", "waiters": "_waiters"},
    "Condition": {"waiters": "_waiters"},
    "Semaphore": {"permits": "_value", "waiters": "_waiters"},
    "Event": {"set": "_value", "waiters": "_waiters"},
    "Queue": {
        "items": "_queue",
        "maxsize": "_maxsize",
        "getters": "_getters",
        "putters": "_putters",
        "unfinished": "_unfinished_tasks",
    },
    "MemoryObjectSendStream": {"closed": "_closed"},
    "CapacityLimiter": {"tokens": "_total_tokens", "borrowed": "_borrowers", "waiters": "_wait_queue"},
}
ENDS_A_WAIT = frozenset(
    "release set notify notify_all put put_nowait get get_nowait task_done set_result set_exception "
    "cancel send send_nowait receive receive_nowait close aclose call_soon_threadsafe".split()
)
# The parts of the standard library that wait for several tasks, and which local holds these; "_tasks" of its `self`.
WAIT_FOR_SEVERAL = {"_wait": "", "wait_for": "", "_cancel_and_wait": "", "__aexit__": "_tasks", "_aexit": "_tasks"}


def awaited_by(objects: Objects, found: Chain, waiter: int) -> Awaited | None:
    """What the task waits for, None where it waits for nothing: it is about to run.

    The outermost call in a file of primitives is what the caller asked for.
    """
    primitive, rest = None, list(found.calls)
    sleeps = bool(rest) and library_path(rest[0].frame.file) == "asyncio/tasks.py" and rest[0].frame.name == "sleep"
    while rest:
        path = library_path(rest[0].frame.file) or ""
        if not (path in PRIMITIVES or (path == ANYIO_BACKEND and is_waitable(objects, rest[0].first))):
            break
        primitive = rest.pop(0)
    if primitive is not None and primitive.first:
        described = describe(objects, primitive.first, primitive.frame.name)
        return replace(described, counts={**described.counts, **servers_facts(objects, rest)})
    at = waiter or found.awaited
    if sleeps:
        return Awaited("timer", waiter)
    child = next((one for one in rest[:2] if is_wait_for_child(one)), None)
    if child is not None and child.first:
        return Awaited("Process", child.first, "wait", facts_of_child(objects, child.first))
    counts = facts_of_stream(objects, rest[0]) if rest else {}
    return Awaited(objects.type_name(at) or "object", at, "", counts, tasks_behind(objects, rest, at)) if at else None


def servers_facts(objects: Objects, rest: list[Call]) -> dict[str, int]:
    """What the server's own object says, whose method waits there."""
    names = SERVERS_FACTS.get(objects.type_name(rest[0].first), ()) if rest and rest[0].first else ()
    return numbers_in(objects, rest[0].first, names) if names else {}


def head_sent(objects: Objects, found: Chain) -> bool:
    """Whether the client of the request that a task serves has had the first part of its answer."""
    for one in found.calls:
        path = library_path(one.frame.file) or ""
        where = next(
            (at for (file, name), at in HEAD_SENT.items() if name == one.frame.name and path.startswith(file)), None
        )
        if where is None or len(one.values) <= where[0]:
            continue
        at = one.values[where[0]]
        for name in where[1]:
            at = fields_of(objects, at).get(name, 0)
        try:
            return bool(at) and objects.integer(at) > where[2]
        except Unreadable:
            return False
    return False


def is_wait_for_child(one: Call) -> bool:
    return library_path(one.frame.file) == "asyncio/subprocess.py" and one.frame.name == "wait"


def facts_of_child(objects: Objects, at: int) -> dict[str, int]:
    """The pid of a child process, and how many bytes lie unread in streams that were stopped because they are full."""
    found, unread = numbers_in(objects, at, ("pid",)), 0
    for name in ("stdout", "stderr"):
        try:
            reader = objects.attributes(at)[name]
            fields = objects.attributes(reader)
            unread += objects.length(fields["_buffer"]) if objects.integer(fields["_paused"]) else 0
        except (KeyError, Unreadable):
            continue
    return {**found, "unread": unread}


def facts_of_stream(objects: Objects, one: Call) -> dict[str, int]:
    """Whether a stream that a task reads is a pipe, as a child process's is, or the body of a request that aiohttp
    serves; {} for what is no such stream."""
    if not (library_path(one.frame.file) or "").endswith("/streams.py") or not one.first:
        return {}
    if "StreamReader" not in objects.kinds(one.first):
        return {}
    fields = fields_of(objects, one.first)
    kind, protocol = (objects.type_name(fields.get(name, 0)) for name in ("_transport", "_protocol"))
    return {"pipe": int("Unix" in kind and "Read" in kind), "body": int(protocol == "RequestHandler")}


def numbers_in(objects: Objects, at: int, names: Iterable[str]) -> dict[str, int]:
    """The attributes of an object that are numbers or flags; those that cannot be read are left out."""
    found = {}
    for name in names:
        try:
            found[name] = objects.integer(fields_of(objects, at)[name])
        except (KeyError, Unreadable):
            continue
    return found


def fields_of(objects: Objects, at: int) -> dict[str, int]:
    try:
        return {**objects.slots(at), **objects.attributes(at)}
    except Unreadable:
        return {}


def tasks_behind(objects: Objects, rest: list[Call], at: int) -> tuple[int, ...]:
    """The tasks for whose end a task waits through one future: those of `gather`, `wait`, `wait_for`, a group."""
    try:
        shielded = task_in_shield(objects, at)
        if shielded:
            return (shielded,)
        if "_GatheringFuture" in objects.kinds(at):
            return tuple(objects.items(objects.attributes(at)["_children"])[:MOST_TASKS_BEHIND])
        for one in rest[:3]:
            path = library_path(one.frame.file) or ""
            if not path.startswith(("asyncio/", "anyio/")):
                break
            where = WAIT_FOR_SEVERAL.get(one.frame.name)
            if where is None or not one.first:
                continue
            tasks = fields_of(objects, one.first).get(where, 0) if where else one.first
            if objects.type_name(tasks) == "set":
                return tuple(objects.members(tasks)[:MOST_TASKS_BEHIND])
            if "Task" in objects.kinds(tasks):
                return (tasks,)
    except (KeyError, Unreadable):
        pass
    return ()


def task_in_shield(objects: Objects, at: int) -> int:
    """The task inside of `shield()` whose outer future this is: the future's first callback has it. 0 for none."""
    if "Future" not in objects.kinds(at) or not objects.written_in_c(at):
        return 0
    callback = objects.memory.word(at + objects.layout.future_exception - CALLBACK_BEFORE)
    version = objects.layout.version
    if objects.type_name(callback) != "function":
        return 0
    name = objects.text(objects.memory.word(callback + FUNCTION_NAME.get(version, LATER_NAME)))
    cells = objects.memory.word(callback + CLOSURE.get(version, LATER_CLOSURE)) if name == OUTER_DONE else 0
    inside = [objects.memory.word(cell + FIRST) for cell in objects.items(cells)] if cells else []
    return next((one for one in inside if one and "Task" in objects.kinds(one)), 0)


def is_done(objects: Objects, at: int) -> bool:
    """Whether a future is done, and only those who await it have to be run."""
    try:
        if not at or "Future" not in objects.kinds(at):
            return False
        if objects.written_in_c(at):
            return objects.memory.small(at + objects.layout.future_state) in (1, 2)
        return "_state" in objects.attributes(at)  # it is the class's until it changes
    except (KeyError, Unreadable):
        return False


def is_waitable(objects: Objects, at: int) -> bool:
    return bool(at) and not COUNTS.keys().isdisjoint(objects.kinds(at))


def describe(objects: Objects, at: int, method: str) -> Awaited:
    """A lock, queue or the like with its counts."""
    kinds = list(objects.kinds(at))
    kind = next((one for one in kinds if one in COUNTS), kinds[0] if kinds else "object")
    counts, attributes = {}, fields_of(objects, at)
    for name, attribute in COUNTS.get(kind, {}).items():
        try:
            counts[name] = count_of(objects, attributes[attribute])
        except (KeyError, Unreadable):
            continue
    return Awaited(kind, at, method, counts)


def count_of(objects: Objects, at: int) -> int:
    """A number, the length of a container, 1 for a task, 0 for None."""
    kind = objects.type_name(at)
    if kind in ("NoneType", "Task"):
        return int(kind == "Task")
    if kind in ("deque", "list", "tuple", "set", "dict", "OrderedDict"):
        return objects.length(at)
    return objects.integer(at)


def managers_entered(objects: Objects, found: Chain) -> tuple[int, ...]:
    """What the task has entered by `async with` and not left.

    The statement keeps the bound `__aexit__` on the stack of its frame, from before it waits to enter.
    """
    held: Counter[int] = Counter()
    seen = {one.at for one in found.calls}
    for inner, one in zip((None, *found.calls), found.calls):
        held.update(at for at in entered_in(objects, one, seen))
        if inner is not None and inner.frame.name == "__aenter__":
            held[inner.first] -= 1
    return tuple(at for at, times in held.items() if times > 0)


def is_lock(objects: Objects, at: int) -> bool:
    return not LOCKS.isdisjoint(objects.kinds(at))


def names_of_managers(objects: Objects, entered: Iterable[int]) -> tuple[str, ...]:
    """What the managers that are no locks are called: by their type, or by the generator that they are made of."""
    found = []
    for at in entered:
        try:
            kinds = set(objects.kinds(at))
            if kinds & {*LOCKS, *STACKS, "Timeout", "CancelScope", "TaskGroup"}:
                continue
            made = objects.attributes(at).get("gen", 0) if "_AsyncGeneratorContextManager" in kinds else 0
            named = objects.text(objects.memory.word(made + objects.layout.qualname)) if made else ""
            found.append(named or objects.type_name(at))
        except Unreadable:
            continue
    return tuple(found)


def entered_in(objects: Objects, one: Call, seen: set[int]) -> Iterator[int]:
    """What the frame is inside of, also through generators that it runs, `asynccontextmanager`s and exit stacks."""
    bound = exit_owners(objects, one)
    bound += [at for stack in bound for at in entered_by_stack(objects, stack)]
    yield from bound
    managers = [at for at in bound if "_AsyncGeneratorContextManager" in objects.kinds(at)]
    for at in (*one.values, *(objects.attributes(manager).get("gen", 0) for manager in managers)):
        if at and at not in seen and len(seen) < MOST_SEEN and objects.type_name(at) in GENERATORS:
            seen.add(at)
            inner = suspended_call(objects, at)
            if inner is not None:
                yield from entered_in(objects, inner, seen)


def entered_by_stack(objects: Objects, at: int) -> list[int]:
    """What was entered through an exit stack: a web framework keeps a request's dependencies so."""
    if not set(STACKS) & set(objects.kinds(at)):
        return []
    try:
        callbacks = objects.queued(objects.attributes(at)["_exit_callbacks"])
        methods = [objects.items(one)[1] for one in callbacks[:MOST_SEEN]]
        return [objects.memory.word(one + FIRST + 8) for one in methods if objects.type_name(one) == "method"]
    except (LookupError, Unreadable):
        return []


def exit_owners(objects: Objects, one: Call) -> list[int]:
    """The objects whose bound methods are among the frame's values: a `with` keeps its `__exit__` there.

    From 3.14 on the function and its object stand apart.
    """
    if objects.layout.version >= TASK_LISTS_SINCE:
        return [at for function, at in zip(one.values, one.values[1:]) if at and is_exit(objects, function)]
    methods = (at for at in one.values if at and objects.type_name(at) == "method")
    pairs = [(objects.memory.word(at + FIRST), objects.memory.word(at + FIRST + 8)) for at in methods]
    return [at for function, at in pairs if objects.type_name(function) != "function" or is_exit(objects, function)]


def is_exit(objects: Objects, at: int) -> bool:
    """Whether it is the function that a `with` calls at its end."""
    if not at or objects.type_name(at) != "function":
        return False
    return objects.text(objects.memory.word(at + FUNCTION_NAME.get(objects.layout.version, LATER_NAME))) in EXITS


def timeouts_around(objects: Objects, found: Chain) -> tuple[bool, bool]:
    """Whether a timeout that is still to come stands around the wait, and whether one that has run out does.

    They are those of `wait_for`, `asyncio.timeout`, AnyIO's cancel scopes. One that has run out ends no wait any more.
    """
    states = [state for inner, one in zip((None, *found.calls), found.calls) for state in timeouts(objects, one, inner)]
    return "runs" in states, "expired" in states


def timeouts(objects: Objects, one: Call, inner: Call | None, depth: int = 0) -> Iterator[str]:
    """The timeouts that a frame has set: "runs" or "expired"."""
    if library_path(one.frame.file) == "asyncio/tasks.py" and one.frame.name in TIMED_WAITS:
        if one.frame.name == "sleep":
            yield "runs"
        elif inner is not None and inner.frame.name == "_cancel_and_wait":
            yield "expired"
        elif objects.type_name(one.values[1] if one.values[1:] else 0) not in ("NoneType", "") and not any(
            "Timeout" in objects.kinds(at) for at in exit_owners(objects, one)
        ):  # as from 3.12 on
            yield "runs"
    for at in exit_owners(objects, one):
        kinds = set(objects.kinds(at))
        if "Timeout" in kinds:
            yield from state_of_timeout(objects, fields_of(objects, at))
        elif "TimerContext" in kinds:  # aiohttp's client has one for the whole of its call
            yield "expired" if numbers_in(objects, at, ("_cancelled",)) == {"_cancelled": 1} else "runs"
        elif "CancelScope" in kinds and objects.finite(fields_of(objects, at).get("_deadline", 0)):
            yield "expired" if numbers_in(objects, at, ("_cancel_called",)) == {"_cancel_called": 1} else "runs"
        elif "_GeneratorContextManager" in kinds and depth < MOST_MANAGERS:  # such as AnyIO's fail_after
            made = objects.attributes(at).get("gen", 0)
            within = suspended_call(objects, made) if objects.type_name(made) == "generator" else None
            yield from timeouts(objects, within, None, depth + 1) if within is not None else ()


def has_seconds(objects: Objects, one: Call) -> bool:
    """Whether `wait_for`, or `wait`, was given a time-out. From 3.12 on the first has an `asyncio.timeout` for it."""
    given = objects.type_name(one.values[1]) if one.values[1:] else ""
    own = any("Timeout" in objects.kinds(at) for at in exit_owners(objects, one))
    return given not in ("NoneType", "") and not own


def state_of_timeout(objects: Objects, fields: dict[str, int]) -> Iterator[str]:
    """An `asyncio.timeout` (or `async_timeout`): no moment is no timeout; its handler is gone once it has run out."""
    when, handler = fields.get("_when") or fields.get("_deadline", 0), fields.get("_timeout_handler", 0)
    if objects.type_name(when) != "NoneType":
        yield "expired" if when and objects.type_name(handler) == "NoneType" else "runs"


def names_that_end_waits(calls: Iterable[Call]) -> frozenset[str]:
    """The names in its application's own code that could end the wait of another task."""
    own = [one.names for one in calls if is_application(one.frame)]
    return frozenset().union(*own) & ENDS_A_WAIT
