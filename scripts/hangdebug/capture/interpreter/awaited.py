"""What a suspended task waits for, what it is inside of, and whether a timeout watches over it."""

from __future__ import annotations

from collections import Counter
from typing import Iterable, Iterator

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
FUNCTION_NAME, EXITS = 32, ("__exit__", "__aexit__")
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
    "CapacityLimiter": {"tokens": "_total_tokens", "borrowed": "_borrowers", "waiters": "_wait_queue"},
}
ENDS_A_WAIT = frozenset(
    "release set notify notify_all put put_nowait get get_nowait task_done set_result set_exception "
    "cancel send send_nowait receive receive_nowait close aclose call_soon_threadsafe".split()
)


def awaited_by(objects: Objects, found: Chain, waiter: int) -> Awaited | None:
    """What the task waits for, None where it waits for nothing: it is about to run.

    The outermost call in a file of primitives is what the caller asked for.
    """
    primitive = None
    for one in found.calls:
        path = library_path(one.frame.file) or ""
        if not (path in PRIMITIVES or path == ANYIO_BACKEND and is_waitable(objects, one.first)):
            break
        primitive = one
    if primitive is not None and primitive.first:
        return describe(objects, primitive.first, primitive.frame.name)
    if (
        found.calls
        and library_path(found.calls[0].frame.file) == "asyncio/tasks.py"
        and found.calls[0].frame.name == "sleep"
    ):
        return Awaited("timer", waiter)
    at = waiter or found.awaited
    return Awaited(objects.type_name(at) or "object", at) if at else None


def is_waitable(objects: Objects, at: int) -> bool:
    return bool(at) and not COUNTS.keys().isdisjoint(objects.kinds(at))


def describe(objects: Objects, at: int, method: str) -> Awaited:
    """A lock, queue or the like with its counts."""
    kinds = list(objects.kinds(at))
    kind = next((one for one in kinds if one in COUNTS), kinds[0] if kinds else "object")
    counts = {}
    try:
        attributes = {**objects.slots(at), **objects.attributes(at)}
    except Unreadable:
        attributes = {}
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


def locks_entered(objects: Objects, found: Chain) -> tuple[int, ...]:
    """The locks that the task has entered by `async with` and not left.

    The statement keeps the lock's bound `__aexit__` on the stack of its frame, from before it waits to enter.
    """
    held: Counter[int] = Counter()
    seen = {one.at for one in found.calls}
    for inner, one in zip((None, *found.calls), found.calls):
        held.update(at for at in entered_in(objects, one, seen) if LOCKS & set(objects.kinds(at)))
        if inner is not None and inner.frame.name == "__aenter__":
            held[inner.first] -= 1
    return tuple(at for at, times in held.items() if times > 0)


def entered_in(objects: Objects, one: Call, seen: set[int]) -> Iterator[int]:
    """What the frame is inside of, also through generators that it runs and `asynccontextmanager`s."""
    bound = exit_owners(objects, one)
    yield from bound
    managers = [at for at in bound if "_AsyncGeneratorContextManager" in objects.kinds(at)]
    for at in (*one.values, *(objects.attributes(manager).get("gen", 0) for manager in managers)):
        if at and at not in seen and len(seen) < MOST_SEEN and objects.type_name(at) in GENERATORS:
            seen.add(at)
            inner = suspended_call(objects, at)
            if inner is not None:
                yield from entered_in(objects, inner, seen)


def exit_owners(objects: Objects, one: Call) -> list[int]:
    """The objects whose bound methods are among the frame's values: a `with` keeps its `__exit__` there.

    From 3.14 on the function and its object stand apart.
    """
    if objects.layout.version >= TASK_LISTS_SINCE:
        return [at for function, at in zip(one.values, one.values[1:]) if at and is_exit(objects, function)]
    return [objects.memory.word(at + FIRST + 8) for at in one.values if at and objects.type_name(at) == "method"]


def is_exit(objects: Objects, at: int) -> bool:
    """Whether it is the function that a `with` calls at its end."""
    return (
        bool(at)
        and objects.type_name(at) == "function"
        and objects.text(objects.memory.word(at + FUNCTION_NAME)) in EXITS
    )


def has_timeout(objects: Objects, found: Chain) -> bool:
    """Whether a timeout stands around the wait: `wait_for`, `asyncio.timeout`, AnyIO's cancel scopes."""
    for one in found.calls:
        path = library_path(one.frame.file) or ""
        if path == "asyncio/tasks.py" and one.frame.name in TIMED_WAITS:
            return True
        for at in exit_owners(objects, one):
            kinds = set(objects.kinds(at))
            if (
                "Timeout" in kinds
                or "CancelScope" in kinds
                and objects.finite({**objects.slots(at), **objects.attributes(at)}.get("_deadline", 0))
            ):
                return True
            if "_GeneratorContextManager" in kinds and is_fail_after(objects, at):
                return True
    return False


def is_fail_after(objects: Objects, at: int) -> bool:
    """Whether the context manager is AnyIO's `fail_after`."""
    function = objects.attributes(at).get("func", 0)
    return "fail_after" in objects.attributes(function) if function else False


def names_that_end_waits(calls: Iterable[Call]) -> frozenset[str]:
    """The names in its application's own code that could end the wait of another task."""
    own = [one.names for one in calls if is_application(one.frame)]
    return frozenset().union(*own) & ENDS_A_WAIT
