"""Coroutines that wait for what never comes: who waits for which lock, event or queue, and who could end that.

Healthy servers are full of tasks that wait. A wait is held against a server only where the tasks themselves show
that nobody ends it, or where a request has had no answer yet and nothing that runs could give it one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from hangdebug.answer.model import Verdict
from hangdebug.evidence.frames import is_application, library_path, package
from hangdebug.evidence.libraries import SERVERS
from hangdebug.evidence.model import Function, Task, Thread
from hangdebug.evidence.source import called, entered, line_at, statement_at
from hangdebug.scene.could_end import ender
from hangdebug.scene.scene import Scene, view
from hangdebug.scene.waits import Motion, Wait

Answer = Optional[Tuple[Verdict, Optional[Wait]]]

MOST_JUDGED = 100
LOCKS = ("Lock", "Semaphore", "CapacityLimiter")
MADE = (
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
STARTED = (
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
class Waiting:
    """The pending tasks of one moment, those that wait for the same thing still, and those that serve a request."""

    tasks: Mapping[int | None, Task]
    stuck: Mapping[int | None, Task]
    served: frozenset[int | None]

    def inside(self, lock: int) -> tuple[Task, ...]:
        return tuple(task for task in self.tasks.values() if lock in task.inside)


def waiting(scene: Scene) -> Waiting:
    """Those whose wait is the same in both readings; a lone reading shows one moment."""
    first, later = scene.evidence.tasks, scene.evidence.later
    pending = {task.id: task for task in later or first if task.state == "pending" and task.id is not None}
    before = {(task.id, task.awaits.id) for task in first if task.awaits}
    stuck = {one: task for one, task in pending.items() if task.awaits and (one, task.awaits.id) in before}
    served = {one for one, task in pending.items() if any(package(frame) in SERVERS for frame in task.frames[1:])}
    awaits = {one: task.awaits.id for one, task in pending.items() if task.awaits and task.awaits.kind == "Task"}
    for _ in range(len(awaits)):
        more = {awaits[one] for one in served if one in awaits} - served
        if not more:
            break
        served |= more
    return Waiting(pending, stuck, frozenset(served))


def tasks_waiting(scene: Scene) -> Answer:
    """None where no wait is shown to last; ("healthy" with doubts is said by the rule after this one)."""
    if not scene.loop or not any(one.idle for one in scene.loop) or not scene.evidence.tasks:
        return None
    seen = waiting(scene)
    rules = (ring,) if scene.evidence.unread else (ring, nobody_inside, nobody_ends)  # one unseen could be the one
    alike = {(task.awaits.id, task.inside, task.frames, task.id in seen.served): task for task in seen.stuck.values()}
    ordered = sorted(alike.values(), key=lambda task: (not task.inside, task.id not in seen.served))[:MOST_JUDGED]
    answers = (rule(scene, seen, task) for rule in rules for task in ordered)
    return next((answer for answer in answers if answer is not None), None)


def ring(scene: Scene, seen: Waiting, task: Task) -> Answer:
    """The task waits for a lock that it holds itself, or for others that wait for it in turn."""
    if task.timed or not (lock_like(task) or task.awaits.kind == "Task") or not closed(seen, task, ()):
        return None
    if task.awaits.kind == "Task":
        words = (
            f"{task.name} waits for {seen.tasks[task.awaits.id].name}, which waits for it in turn: none of them can go on.",
        )
        return verdict(scene, seen, task, 0.95, words, ())
    holders = seen.inside(task.awaits.id)
    own = any(one.id == task.id for one in holders)
    who = "itself" if own else ", ".join(one.name for one in holders[:4]) + ", which waits in turn"
    words = (f"{task.name} waits for {task.awaits}; the task inside of it is {who}: none of them can go on.",)
    return verdict(scene, seen, task, 0.95, words, ())


def closed(seen: Waiting, task: Task, trail: tuple) -> bool:
    """Whether everyone inside of the lock that `task` waits for waits for a task of this same circle."""
    if task.id in trail:
        return True
    if task.timed or task.id not in seen.stuck or len(trail) > 50:
        return False
    trail = (*trail, task.id)
    if task.awaits.kind == "Task":
        return task.awaits.id in seen.tasks and closed(seen, seen.tasks[task.awaits.id], trail)
    if not lock_like(task):
        return False
    holders = seen.inside(task.awaits.id)
    if task.awaits.kind != "Lock" and any("release" in one.ends for one in seen.tasks.values() if one not in holders):
        return False  # permits can be taken without `async with`, by anyone
    return bool(holders) and all(closed(seen, one, trail) for one in holders)


def lock_like(task: Task) -> bool:
    counts = task.awaits.counts if task.awaits else {}
    if task.awaits is None or task.awaits.kind not in LOCKS:
        return False
    return (
        1 in (counts.get("locked"), counts.get("owned"))
        or counts.get("permits") == 0
        or counts.get("borrowed", 0) >= counts.get("tokens", 1)
    )


def nobody_inside(scene: Scene, seen: Waiting, task: Task) -> Answer:
    """The lock is taken, and no task is inside of it: whoever took it has gone without releasing it."""
    if not lock_like(task) or task.timed or task.awaits.kind == "CapacityLimiter" or seen.inside(task.awaits.id):
        return None
    if any(task.awaits.id in one.inside for one in scene.evidence.tasks):
        return None  # it changes hands
    by_hand = task.awaits.method != "__aenter__" and "release" not in task.ends
    if by_hand and any(name.lstrip("+") == "release" for one in scene.evidence.functions or () for name, _ in one.ends):
        return None  # a semaphore that counts work is taken here, and released by whoever brings the work
    others = [one for one in seen.tasks.values() if not waits_for(seen, one, task.awaits.id) and own_code(one)]
    if any(one.id in seen.served or "release" in one.ends for one in others):
        return None  # taken by hand, or by a dependency that a request keeps open: that shows in no frame
    if scene.evidence.functions is None or not direct(task) or ended_by(scene, seen, task, {"release"}):
        return None
    words = (f"{task.name} waits for {task.awaits}, and no task is inside of it: it was taken and never released.",)
    doubts = (
        ("No function of the application releases any; a library to which it was handed could.",) if by_hand else ()
    )
    return verdict(scene, seen, task, 0.9 if not others and not by_hand else 0.8, words, doubts)


def nobody_ends(scene: Scene, seen: Waiting, task: Task) -> Answer:
    """A request without an answer waits for an event or a queue, with no timeout, and no task can end that."""
    if task.id not in seen.served or task.timed or started(task) or not direct(task) or not scene.evidence.later:
        return None
    ends = ends_of(task)
    if not ends or lock_like(task) or satisfied(task):
        return None
    if any(ends & one.ends for one in seen.tasks.values() if not waits_for(seen, one, task.awaits.id)):
        return None
    if scene.evidence.functions is None or ended_by(scene, seen, task, ends):
        return None
    words = (
        f"{task.name} serves a request that has no answer yet, and waits for {task.awaits} without a timeout.",
        f"No task, thread or callback that is left calls {' or '.join(sorted(ends))}, and no request that could come.",
    )
    failed = [one for one in scene.evidence.later if one.state.startswith("failed") and ends & one.ends]
    if failed:
        words += (
            f"{failed[0].coroutine} would call {' or '.join(sorted(ends & failed[0].ends))}, "
            "but has ended with an exception.",
        )
    doubt = "A library to which it was handed could still end this wait."
    return verdict(scene, seen, task, 0.88 if failed else 0.85, words, () if failed else (doubt,))


def ended_by(scene: Scene, seen: Waiting, task: Task, ends: set[str]) -> Function | None:
    """The application's function that could still end the wait: in a task, a thread, a callback, a later request."""
    blocked = {one.id for one in seen.tasks.values() if waits_for(seen, one, task.awaits.id)}
    loop = {one.thread.os_id for one in scene.loop}
    threads = [one.thread.frames for one in scene.last if one.thread.os_id not in loop]
    running = [one.frames for one in seen.tasks.values() if one.id not in blocked] + threads
    return ender(
        scene.evidence.functions or (),
        ends,
        [frame for one in seen.tasks.values() if one.id in blocked for frame in one.frames],
        [frame for frames in running for frame in frames if is_application(frame)],
        [one.coroutine for one in scene.evidence.later if one.state.startswith("failed")],
    )


def satisfied(task: Task) -> bool:
    """What it waits for has come, and it is about to run."""
    counts, method = task.awaits.counts, task.awaits.method
    room = method == "put" and counts.get("items", 0) < counts.get("maxsize", 0)
    return bool(counts.get("set")) or room or method == "get" and counts.get("items", 0) > 0


def waits_for(seen: Waiting, task: Task, what: int) -> bool:
    """Whether the task waits for that object, itself or through the tasks that it awaits."""
    for _ in range(20):
        if task.id not in seen.stuck:
            return False
        if task.awaits.id == what:
            return True
        if task.awaits.kind != "Task" or task.awaits.id not in seen.tasks:
            return False
        task = seen.tasks[task.awaits.id]
    return False


def own_code(task: Task) -> bool:
    return any(is_application(frame) for frame in task.frames)


def started(task: Task) -> bool:
    """The response has begun, so the client knows that it is served: a stream, a websocket."""
    return any((library_path(frame.file) or "").startswith(STARTED) for frame in task.frames)


def direct(task: Task) -> bool:
    """Whether the application itself awaits it: what a library waits for, its own protocol ends."""
    for frame in task.frames:
        if is_application(frame):
            return True
        if library_path(frame.file) not in MADE:
            return False
    return False


def verdict(
    scene: Scene, seen: Waiting, task: Task, sure: float, words: tuple[str, ...], doubts: tuple[str, ...]
) -> Answer:
    """The answer, with who else waits there and which tasks have failed meanwhile."""
    crowd = sum(one.awaits.id == task.awaits.id for one in seen.stuck.values())
    more = (f"{crowd} tasks wait for it.",) if crowd > 1 else ()
    more += tuple(
        f"{one.name} ({one.coroutine}) has {one.state}"
        for one in scene.evidence.tasks
        if one.state.startswith("failed")
    )[:4]
    if not scene.evidence.later:
        sure, doubts = min(sure, 0.7), (*doubts, "The tasks were read once: that is one moment.")
    return Verdict("tasks-waiting", sure, words + more, doubts), as_wait(scene, task)


def as_wait(scene: Scene, task: Task) -> Wait:
    """The task's stack in the form that threads have, so that causes and reports can read it."""
    seen = view(Thread(task.frames, task.name), "other")
    sources = scene.evidence.sources
    statement = statement_at(sources, seen.frame) if seen.frame else ""
    text = line_at(sources, seen.frame) if seen.frame else None
    return Wait(seen, Motion(1, 1, 0), text, called(statement), entered(statement), None, True)


def ends_of(task: Task) -> set[str]:
    """What a task's code must name to be able to end this wait, empty where that is not known."""
    return ENDS.get(task.awaits.kind) or ENDS.get(f"{task.awaits.kind}.{task.awaits.method}") or set()
