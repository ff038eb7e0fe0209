"""Coroutines that wait for what never comes: who waits for which lock, event or queue, and who could end that.

Healthy servers are full of tasks that wait. A wait counts as a hang only where the tasks themselves show that
nobody ends it, or where a request has had no answer yet and nothing that runs could give it one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, is_application, library_path, package
from hangdebug.evidence.libraries import SERVERS
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame, Function, Statement, Task, Thread
from hangdebug.evidence.source import called, entered, line_at, statement_at
from hangdebug.evidence.vocabulary import Role, StatementKind
from hangdebug.scene.graph import Edge, handed_coroutines, sleeps_in_place, task_edge
from hangdebug.scene.scene import Scene, identity, once, view
from hangdebug.scene.waits import Motion, Wait, wait

LOCKS = ("Lock", "Semaphore", "CapacityLimiter")
PRIMITIVES = (
    "asyncio/locks.py",
    "asyncio/queues.py",
    "anyio/_core/_synchronization.py",
    "anyio/streams/memory.py",
    "anyio/_backends/_asyncio.py",
)
# What a task's code must name to be able to end such a wait.
ENDS = {
    "Lock": {"release"},
    "Semaphore": {"release"},
    "CapacityLimiter": {"release"},
    "Event": {"set"},
    "Condition": {"notify", "notify_all"},
    "Queue.get": {"put", "put_nowait"},
    "Queue.put": {"get", "get_nowait"},
    "Queue.join": {"task_done"},
    "MemoryObjectSendStream.send": {"receive", "receive_nowait", "close", "aclose"},
    "MemoryObjectReceiveStream.receive": {"send", "send_nowait", "close", "aclose"},
}
# Servers of messages that come through a pipe, or over a connection of the server's own: a task for each.
MESSAGES = ("mcp/server/", "fastmcp/server/", "pygls/", "ipykernel/")
# Parts of packages that also serve: a program may use the rest of them, and serve nobody.
HANDLERS = (*MESSAGES, "tornado/web.py", "tornado/websocket.py", "channels/routing.py", "channels/consumer.py")
# Where a task waits for all of the tasks in a group.
GROUPS = ("asyncio/taskgroups.py", "anyio/_backends/_asyncio.py:__aexit__")
OF_FUTURE = {"set_result", "set_exception"}
# The same where a library's call has given a bare future, by the name of the call.
OF_CALL = {
    "wait": {"set", "notify", "notify_all", "release"},
    "wait_for": {"notify", "notify_all"},
    "acquire": {"release"},
    "get": {"put", "put_nowait"},
    "put": {"get", "get_nowait"},
    "join": {"task_done"},
    "receive": {"send", "send_nowait", "close", "aclose"},
}
ASSIGNED, CALLED = re.compile(r"\b(?P<name>\w+)\s*=(?!=)(?P<value>.*)"), re.compile(r"(\w+)\(")
MAKES_FUTURE = r"\b{}\b[^=\n]*=[^=].*(?:create_future|Future)\("
RESPONSES = (
    "starlette/responses.py",
    "starlette/websockets.py",
    "starlette/background.py",
    "sse_starlette/",
    "fastapi/sse.py",
    "uvicorn/protocols/websockets/",
    "aiohttp/web_ws.py",
    "sanic/server/websockets/",
    "quart/wrappers/websocket.py",
)


@dataclass(frozen=True)
class TaskWaits:
    """The pending tasks of one moment, those that wait for the same thing still, and those that serve a request."""

    tasks: Mapping[int, Task]
    stuck: Mapping[int, Task]
    served: frozenset[int]

    def inside(self, lock: int) -> tuple[Task, ...]:
        return tuple(task for task in self.tasks.values() if lock in task.inside)


@once
def task_waits(scene: Scene) -> TaskWaits:
    """Those whose wait is the same in both readings; a lone reading shows one moment."""
    first, later = scene.evidence.tasks, scene.evidence.later
    pending = {task.id: task for task in later or first if task.state == "pending" and task.id is not None}
    before = {(task.id, task.awaits.id) for task in first if task.awaits}
    stuck = {one: task for one, task in pending.items() if task.awaits and (one, task.awaits.id) in before}
    served = {one for one, task in pending.items() if any(map(serves, task.frames[1:]))}
    awaits = {one: (task.awaits.id, *task.awaits.of) for one, task in pending.items() if task.awaits}
    for _ in range(len(awaits)):
        more = {other for one in served for other in awaits.get(one, ()) if other in pending} - served
        if not more:
            break
        served |= more
    return TaskWaits(pending, stuck, frozenset(served))


def serves(frame: Frame) -> bool:
    """Whether it is a server's or a web framework's: whoever it calls serves a request or a message."""
    return package(frame) in SERVERS or (library_path(frame.file) or "").startswith(HANDLERS)


def task_edges(seen: TaskWaits) -> dict[object, Edge]:
    """Which pending task waits for which without a timeout: for a task, or for those inside of a lock, by address."""
    found: dict[object, Edge] = {}
    for one, task in seen.stuck.items():
        if task.timed or task.awaits is None:
            continue
        if task.awaits.kind == "Task" and task.awaits.id in seen.tasks:
            found[one] = Edge("task", "{}", (task.awaits.id,))
        elif waits_for_taken_lock(task):
            holders = tuple(holder.id for holder in seen.inside(task.awaits.id))
            # Permits can be taken without `async with`, by anyone.
            others = (other for other in seen.tasks.values() if other.id not in holders)
            if holders and (task.awaits.kind == "Lock" or not any("release" in other.ends for other in others)):
                found[one] = Edge("lock", "{}", holders)
    return found


@once
def edges_through_threads(scene: Scene) -> dict[object, Edge]:
    """Of a task that waits for a call in a thread, and of a thread that waits for a coroutine that it has handed to the
    loop: to whom, as far as the source names the function.
    """
    found: dict[object, Edge] = {}
    seen = task_waits(scene)
    for one, task in seen.stuck.items():
        edge = task_edge(scene, task) if not task.timed and scene.loop else None
        if edge is not None and edge.kind == "future":
            found[one] = edge
    for each in scene.threads("worker") if found else ():
        names = handed_coroutines(scene, wait(scene, each)) if sleeps_in_place(wait(scene, each)) else set()
        handed = tuple(task.id for task in seen.tasks.values() if names & {name_of_coroutine(task)})
        if handed:
            found[identity(each)] = Edge("loop", "{}", handed)
    return found


def name_of_coroutine(task: Task) -> str:
    """The name of the application's outermost function in it."""
    return next((frame.name for frame in reversed(task.frames) if is_application(frame)), "")


def waits_for_taken_lock(task: Task) -> bool:
    counts = task.awaits.counts if task.awaits else {}
    if task.awaits is None or task.awaits.kind not in LOCKS:
        return False
    return (
        1 in (counts.get("locked"), counts.get("owned"))
        or counts.get("permits") == 0
        or counts.get("borrowed", 0) >= counts.get("tokens", 1)
    )


def could_be_ended_by(
    scene: Scene, seen: TaskWaits, task: Task, ends: set[str], without: frozenset[str] = frozenset()
) -> Function | None:
    """The application's function that could still end the wait: in a task, a thread, a callback, a later request.

    Those of the names in `without` do not count.
    """
    awaited = task.awaits.id if task.awaits is not None else None
    blocked = {one.id for one in seen.tasks.values() if waits_for_object(seen, one, awaited)}
    loop = {one.thread.os_id for one in scene.loop}
    threads = [one.thread.frames for one in scene.last if one.thread.os_id not in loop]
    running = [one.frames for one in seen.tasks.values() if one.id not in blocked] + threads
    return who_could_end(
        tuple(one for one in scene.evidence.functions or () if one.name not in without),
        ends,
        [frame for one in seen.tasks.values() if one.id in blocked for frame in before_their_wait(one)],
        [frame for frames in running for frame in frames if is_application(frame)],
        [one.coroutine for one in scene.evidence.later if one.state.startswith("failed")],
    )


def before_their_wait(task: Task) -> tuple[Frame, ...]:
    """Its frames, but for one that waits at the end of a block: another one that gets there has run the block."""
    return tuple(
        frame for inner, frame in zip((None, *task.frames), task.frames) if inner is None or inner.name != "__aexit__"
    )


def about_to_run(task: Task) -> bool:
    """What it waits for has come, and it is about to run."""
    if task.awaits is None or task.ready:
        return task.awaits is not None
    counts, method = task.awaits.counts, task.awaits.method
    room = method == "put" and counts.get("items", 0) < counts.get("maxsize", 0)
    return bool(counts.get("set")) or room or (method == "get" and counts.get("items", 0) > 0)


def waits_for_object(seen: TaskWaits, task: Task, what: int | None) -> bool:
    """Whether the task waits for that object, itself or through the tasks that it awaits."""
    for _ in range(20):
        if task.awaits is None or task.id not in seen.stuck:
            return False
        if task.awaits.id == what or any(
            waits_for_object(seen, seen.tasks[one], what) for one in behind_all(task) if one in seen.tasks
        ):
            return True
        if task.awaits.kind != "Task" or task.awaits.id not in seen.tasks:
            return False
        task = seen.tasks[task.awaits.id]
    return False


def behind_all(task: Task) -> tuple[int, ...]:
    """The tasks for all of which a task waits through one object, as a group does; () where one may be enough."""
    of = task.awaits.of if task.awaits is not None else ()
    for_all = task.awaits is not None and task.awaits.kind == "_GatheringFuture"
    return of if len(of) == 1 or for_all or any(calls(frame, *GROUPS) for frame in task.frames[:3]) else ()


def runs_application(task: Task) -> bool:
    return any(is_application(frame) for frame in task.frames)


def response_begun(task: Task) -> bool:
    """The response has begun, so the client knows that it is served: a stream, a websocket."""
    return task.begun or any((library_path(frame.file) or "").startswith(RESPONSES) for frame in task.frames)


def awaited_directly(task: Task) -> bool:
    """Whether the application itself awaits it: what a library waits for, its own protocol ends."""
    for frame in task.frames:
        if is_application(frame):
            return True
        if library_path(frame.file) not in PRIMITIVES:
            return False
    return False


def as_wait(scene: Scene, task: Task, role: Role = "other") -> Wait:
    """The task's stack in the form that threads have, so that causes and reports can read it.

    With another role it is no coroutine's, but that of a thread which was seen by somebody else.
    """
    seen = view(Thread(task.frames, task.name), role)
    sources = scene.evidence.sources
    statement = statement_at(sources, seen.frame) if seen.frame else ""
    text = (line_at(sources, seen.frame) or seen.frame.text or None) if seen.frame else None
    statement = statement or text or ""
    return Wait(seen, Motion(1, 1, 0), text, called(statement), entered(statement), None, role == "other")


def makes_future(scene: Scene, task: Task) -> bool:
    """Whether the application has made the future that it awaits: what a library has made, the library ends."""
    frame = task.frames[0]
    if not is_application(frame):
        return False
    names = re.findall(r"\w+", statement_at(scene.evidence.sources, frame))
    lines = scene.evidence.sources.get(frame.file, {}).values()
    return any(re.search(MAKES_FUTURE.format(name), line) for name in set(names) for line in lines)


def ends_of(scene: Scene, task: Task) -> set[str]:
    """What a task's code must name to be able to end this wait, empty where that is not known."""
    if task.awaits is None:
        return set()
    if task.awaits.kind == "Future" and makes_future(scene, task):
        return OF_FUTURE
    return ENDS.get(task.awaits.kind) or ENDS.get(f"{task.awaits.kind}.{task.awaits.method}") or set()


def ends_by_call(scene: Scene, task: Task) -> set[str]:
    """The same of a bare future that a library has made: what ends such waits, by the name of the call that gave it."""
    if task.awaits is None or task.awaits.kind != "Future" or not is_application(task.frames[0]):
        return set()
    statement = statement_at(scene.evidence.sources, task.frames[0])
    lines = scene.evidence.sources.get(task.frames[0].file, {}).values()
    made = (found for found in map(ASSIGNED.search, lines) if found and found["name"] in statement)
    names = {name for text in (statement, *(found["value"] for found in made)) for name in CALLED.findall(text)}
    return OF_FUTURE.union(*(OF_CALL[name] for name in (names & OF_CALL.keys() if names else OF_CALL)))


# -- a list of tasks and nothing else ----------------------------------------------------------------------

# Where a task waits for other tasks: those are looked at instead.
FOR_TASKS = re.compile(r"_GatheringFuture|<Task |^Task\b|\bgather\b")


def innermost_task(scene: Scene) -> Task | None:
    """The application's task that waits for no other one, and of several the one in the commonest place.

    A task that only sleeps, or whose steps a log reports, is passed over.
    """
    found = [
        task
        for task in scene.evidence.tasks
        if seconds(task) is None
        and not task.state.startswith(("finished", "cancelled", "done", "failed"))
        and runs_application(task)
        and not calls(task.frames[0], "asyncio/tasks.py:sleep")
    ]
    last = [task for task in found if not waits_for_tasks(task)] or found
    places = Counter(own_frame(task) for task in last)
    return max(last, key=lambda task: places[own_frame(task)], default=None)


def waits_for_tasks(task: Task) -> bool:
    kind = task.awaits.kind if task.awaits is not None else ""
    return (
        kind in ("Task", "_GatheringFuture") or calls(task.frames[0], *GROUPS) or bool(FOR_TASKS.search(task.waits_on))
    )


def own_frame(task: Task) -> Frame | None:
    return next((frame for frame in task.frames if is_application(frame)), None)


# -- what a text states ----------------------------------------------------------------------------------


OF_PROCESS = re.compile(r"\bpid[:=]? ?(\d{1,10})")


def stated(scene: Scene, *kinds: StatementKind) -> Statement | None:
    """The first statement of one of these kinds in the text of the evidence; of those on a held loop, the longest."""
    pids = {str(snapshot.pid) for snapshot in scene.evidence.snapshots}
    found = [
        one
        for snapshot in scene.evidence.snapshots
        for one in snapshot.stated
        if one.kind in kinds and not ("None" not in pids and set(OF_PROCESS.findall(one.text)) - pids)
    ]
    return max(found, key=lambda one: one.seconds or 0, default=None)


def stated_place(scene: Scene, statement: Statement) -> Wait | None:
    """Where the statement's own line or, failing that, a stack of the text shows the application's code."""
    if scene.loop and not scene.loop[-1].idle and scene.loop[-1].frame is not None:
        return wait(scene, scene.loop[-1])
    frames = [statement.frames, *(one.frames for snapshot in scene.evidence.snapshots for one in snapshot.threads)]
    lone = len(scene.last) <= 1
    shown = next((one for one in frames[: None if lone else 1] if any(map(is_application, one))), ())
    return as_wait(scene, Task("", shown), "event-loop") if shown else None


# -- what asyncio's debug log says of slow steps -------------------------------------------------------

TOOK = re.compile(r"^took (\d+(?:\.\d+)?) seconds$")
LONGEST_NORMAL = 1.0  # seconds: asyncio reports every step over 0.1


@dataclass(frozen=True)
class LoggedStep:
    """The longest step that the log reports: its seconds, the words that say so, and where its coroutine stood."""

    seconds: float
    words: tuple[str, ...]
    wait: Wait


def longest_step(scene: Scene) -> LoggedStep | None:
    """None where threads are known as well, or no step is reported."""
    steps = [(seconds(task), task) for task in scene.evidence.tasks]
    timed = [(took, task) for took, task in steps if took is not None]
    if scene.last or not timed:
        return None
    longest, task = max(timed, key=lambda step: step[0])
    stood = as_wait(scene, task)
    inner = () if stood.frame is None else (stood.frame,)
    view = replace(stood.view, section=inner, inner=())
    stood = replace(stood, view=view, text=None, called=frozenset(), entered=None)
    words = [f"A step of {stood.frame or task.coroutine or task.name} held the event loop for {longest:g} s."]
    words += [f"The log reports {len(timed)} such steps."] if len(timed) > 1 else []
    return LoggedStep(longest, tuple(words), stood)


def seconds(task: Task) -> float | None:
    found = TOOK.match(task.state)
    return float(found[1]) if found else None


# -- who could end a wait ------------------------------------------------------------------------------
# Who could still end a wait: what tasks and threads that run have ahead of them, and what a later request may call.
#
# A route that puts into the queue, a callback, an hourly job that will call `publish()`: none of them stands in any
# stack now. What the wait itself stands in the way of is no such thing: the `release()` further down in the function
# that waits for a permit.

Lines = range
Part = tuple[Function, Lines]  # a function, and which of its lines can still run
EVERY_LINE = Lines(0, 1 << 30)


def who_could_end(
    functions: tuple[Function, ...],
    ends: set[str],
    waiting: Iterable[Frame],
    running: Iterable[Frame],
    failed: Iterable[str] = (),
) -> Function | None:
    """The first function that could still call one of `ends`; None where there is none.

    `waiting` are the frames of those that wait, `running` those of tasks and threads that do not, `failed` the
    names of coroutines that have ended with an exception.
    """
    gone = {name.rpartition(".")[2] for name in failed}
    kept = [one for one in functions if one.name not in gone]
    where = [(one, frame.line) for frame in waiting for one in [function_at(functions, frame)] if one and frame.line]
    keys = {key for one, line in where for key in keys_at(one, line)}
    busy = [
        (one, lines_ahead(one, frame.line))
        for frame in running
        for one in [function_at(kept, frame)]
        if one and frame.line
    ]
    cut = {
        one: lines_before_wait(one, keys, [line for other, line in where if other == one], bool(busy)) for one in kept
    }
    for one in kept:
        if any(name[0] == "+" and name[1:] in ends and line in cut[one] for name, line in one.ends):
            return one
    for one, lines in reachable_lines(kept, cut, busy):
        if any(name in ends and line in lines for name, line in one.ends):
            return one
    return None


def keys_at(one: Function, line: int) -> set[str]:
    """What a line awaits. A condition's own lock is free while it is waited for (`async with ready: ...wait()`)."""
    keys = {key for key, at in one.awaits if at == line}
    waited = {key.split(".")[-2] for key in keys if key.endswith(".wait")}
    return {key for key in keys if not (key.startswith("with ") and re.split(r"[ .]", key)[-1] in waited)}


def reachable_lines(kept: list[Function], cut: dict[Function, Lines], busy: list[Part]) -> Iterator[Part]:
    """The functions that can still run, and which of their lines."""
    todo = [*busy, *((one, cut[one]) for one in kept if one.root)]
    seen = set()
    while todo:
        found = todo.pop()
        if found in seen:
            continue
        seen.add(found)
        yield found
        names = {name for name, line in found[0].calls if line in found[1]}
        todo += [
            (one, cut[one]) for one in kept if one.name in names or (one.owner in names and one.name.startswith("__"))
        ]


def lines_before_wait(one: Function, keys: set[str], waits: list[int], busy: bool) -> Lines:
    """The lines of a function that run before it comes to the same wait.

    One that yields may stand behind it, held open by a request in progress, as a dependency is: then all count.
    """
    if one.yields and busy:
        return EVERY_LINE
    lines = [*waits, *(line for key, line in one.awaits if key in keys)]
    return Lines(0, min(lines)) if lines else EVERY_LINE


def lines_ahead(one: Function, line: int) -> Lines:
    """The lines that a function which stands in `line` may still come to."""
    return Lines(min([line, *(first for first, last in one.loops if first <= line <= last)]), 1 << 30)


def ends_in_loop(scene: Scene, task: Task, ends: set[str]) -> bool:
    """Whether the task waits inside of a loop of the application's that calls one of `ends`, as a consumer does."""
    known = scene.evidence.functions or ()
    around = [(function_at(known, frame), frame.line or 0) for frame in task.frames]
    return any(
        name.lstrip("+") in ends and first <= line <= last
        for one, at in around
        if one is not None
        for first, last in one.loops
        if first <= at <= last
        for name, line in one.ends
    )


def function_at(functions: Iterable[Function], frame: Frame) -> Function | None:
    """The innermost function around a frame's line."""
    around = [one for one in functions if one.file == frame.file and one.line <= (frame.line or 0) <= one.last]
    return max(around, key=lambda one: one.line, default=None)
