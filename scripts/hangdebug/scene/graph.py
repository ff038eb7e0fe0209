"""The graph of waits: who waits for whom, through locks, futures, joins, pools' queues, and the event loop.

A node is a thread that stands still, or a suspended coroutine that holds a lock of threads and needs the loop to go on.
An edge is drawn only to whoever the evidence names. Whoever waits for a moving thread does not wait for ever.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Iterator, Mapping

from hangdebug.evidence.frames import calls, is_application
from hangdebug.evidence.kernel import endless
from hangdebug.evidence.model import Task
from hangdebug.evidence.roles import is_anyio_worker
from hangdebug.evidence.source import line_at, statement_at
from hangdebug.scene.locks import FUTEX, REENTRANT, Held, Lock, held, same, wanted
from hangdebug.scene.scene import Scene, View, identity
from hangdebug.scene.waits import Wait, wait

MOST_THREADS = 400
RESULT = (
    "concurrent/futures/_base.py:result",
    "concurrent/futures/_base.py:exception",
    "concurrent/futures/_base.py:wait",
)
ASKS_LOOP = ("anyio/from_thread.py", "asgiref/sync.py:__call__", "asgiref/current_thread_executor.py:run_until_future")
DEFAULT = ("asyncio", "uvloop")
HANDS_OVER = "run_coroutine_threadsafe"
JOIN = ("threading.py:join", "threading.py:_wait_for_tstate_lock")
SHUTDOWN = ("concurrent/futures/thread.py:shutdown",)
JOINED = re.compile(r"([A-Za-z_][\w.]*)\.join\(")
THREAD_OF = r"^\s*{}\s*(?::[^=]+)?=.*\bThread\(.*\btarget\s*=\s*([\w.]+)"
SUBMITTED = re.compile(r"([A-Za-z_][\w.]*)\.(?:submit|map)\(\s*([A-Za-z_][\w.]*)")
TO_THREAD = re.compile(
    r"(?:\bto_thread|\brun_sync|\brun_in_threadpool|\brun_in_executor\([^,]+,)\(?\s*([A-Za-z_][\w.]*)"
)
PREFIX = re.compile(r"thread_name_prefix\s*=\s*[\"']([^\"']+)")


@dataclass(frozen=True)
class Edge:
    """What a node waits for: it goes on when `every` one of `targets` does, or else when one of them does.

    `through` says what lies between, with {} where the target's name belongs.
    """

    kind: str
    through: str
    targets: tuple[object, ...]
    sure: bool = True
    every: bool = False


@dataclass(frozen=True)
class Graph:
    """The waits by node, the edges by node, and the suspended coroutines that hold a lock."""

    waits: Mapping[object, Wait]
    edges: Mapping[object, Edge]
    tasks: Mapping[object, Held] = field(default_factory=dict)


def graph(scene: Scene) -> Graph:
    """Of the threads that stand in one place in every sample, and do not wake."""
    still = {
        identity(view): one
        for view in scene.last[:MOST_THREADS]
        if not view.idle and view.section
        for one in [wait(scene, view)]
        if stands(one)
    }
    holders = {key: tuple(held(one.view.thread.frames, scene.evidence.sources)) for key, one in still.items()}
    moving = {
        identity(view): tuple(held(view.thread.frames, scene.evidence.sources))
        for view in scene.last[:MOST_THREADS]
        if identity(view) not in still and not view.idle
    }
    inside = tuple(suspended(scene))
    tasks = {("task", task.name): one for task, one in inside}
    edges = {}
    for key, one in still.items():
        edge = (
            lock_edge(scene, key, one, {**moving, **holders}, tasks, still)
            or loop_edge(scene, one)
            or pool_edge(scene, one)
            or join_edge(scene, one)
        )
        if edge is not None and edge.targets and not (is_timed(one) and edge.kind == "lock"):
            edges[key] = edge
    if scene.loop:
        edges.update({("task", task.name): task_edge(scene, task) for task, _ in inside})
    return Graph(still, edges, tasks)


def stands(one: Wait) -> bool:
    """In one place in every sample, and asleep."""
    return one.motion.same == one.motion.samples and not one.running and not one.motion.woke


def is_timed(one: Wait) -> bool:
    """Whether the kernel says that this wait ends by itself."""
    return one.kernel is not None and one.kernel.syscall == "futex" and not endless(one.kernel.args)


def suspended(scene: Scene) -> Iterator[tuple[Task, Held]]:
    """The coroutines that are inside of a lock of threads while they await. One that runs now is on the loop's stack."""
    on_stack = {(frame.function, frame.file, frame.line) for view in scene.loop[-1:] for frame in view.section}
    for task in scene.evidence.later or scene.evidence.tasks:
        running = any(
            (frame.function, frame.file, frame.line) in on_stack for frame in task.frames if is_application(frame)
        )
        if task.state == "pending" and not running:
            for one in held(task.frames, scene.evidence.sources):
                yield task, one


def lock_edge(
    scene: Scene,
    key: object,
    one: Wait,
    holders: Mapping[object, tuple[Held, ...]],
    tasks: Mapping[object, Held],
    still: Mapping[object, Wait],
) -> Edge | None:
    """To whoever is inside of the lock that the thread stands before."""
    for lock in wanted(one, scene.evidence.sources):
        found = {
            target: (mine, same(lock, mine.lock))
            for target, all_ in holders.items()
            for mine in all_
            if same(lock, mine.lock) is not None and (target == key or not one_lock(one, still.get(target)))
        }
        found.update(
            {
                target: (mine, same(lock, mine.lock))
                for target, mine in tasks.items()
                if same(lock, mine.lock) is not None
            }
        )
        certain = {target: pair for target, pair in found.items() if pair[1]}
        found = certain or found
        if key in found and not certain:
            found = {target: pair for target, pair in found.items() if target != key} or (
                {key: (found[key][0], True)} if one_object(scene, one, lock, found[key][0]) else {}
            )
        if key in found and set(lock.kinds) & set(REENTRANT):
            continue
        if found:
            mine, sure = next(iter(found.values()))
            return Edge(
                "lock", f"`{lock.name}`, which {{}} took in {mine.frame}", tuple(found), bool(sure) and len(found) == 1
            )
    return None


def one_lock(one: Wait, other: Wait | None) -> bool:
    """Whether the kernel shows both before the same lock: then neither is inside of it."""
    return other is not None and futex(one) is not None and futex(one) == futex(other)


def futex(one: Wait) -> int | None:
    """The address of the lock that the thread waits for, as the kernel has it. Equal addresses are one lock."""
    return one.kernel.args[0] if one.in_syscall("futex") and one.kernel.args else None


def one_object(scene: Scene, one: Wait, lock: Lock, mine: Held) -> bool:
    """Whether both names mean one object's lock: in one frame the same name, in two a name of one and the same `self`.

    It is the same `self` where the thread got from the one frame to the other by calls of its methods.
    """
    frame = mine.frame
    if frame == one.frame:
        return lock.name == mine.lock.name
    if not lock.name.startswith("self.") or not mine.lock.name.startswith("self."):
        return False
    own = [each for each in one.view.thread.frames if is_application(each)]
    between = own[: own.index(frame) + 1] if frame in own else own
    lines = [line_at(scene.evidence.sources, outer) or "" for outer in between[1:]]
    return bool(between) and all(
        re.search(rf"\bself\.{re.escape(inner.name)}\(", text) for inner, text in zip(between, lines)
    )


def loop_edge(scene: Scene, one: Wait) -> Edge | None:
    """To the event loop, by a worker that waits for a coroutine there."""
    if not scene.loop or one.view.role == "event-loop" or not asks_loop(one, scene):
        return None
    return Edge("loop", "a coroutine that it handed to {}", (identity(scene.loop[-1]),))


def asks_loop(one: Wait, scene: Scene) -> bool:
    return one.inside(*ASKS_LOOP) or one.starts_with(*RESULT) and hands_over(one, scene)


def hands_over(one: Wait, scene: Scene) -> bool:
    """Whether the line, or the one that made the future it waits for, hands a coroutine to a loop."""
    if one.frame is None:
        return False
    statement = statement_at(scene.evidence.sources, one.frame)
    if HANDS_OVER in statement or any(name.endswith(HANDS_OVER) for name in one.called):
        return True
    futures = {name.rpartition(".")[0] for name in one.called if name.rpartition(".")[2] in ("result", "exception")}
    lines = scene.evidence.sources.get(one.frame.file, {}).values()
    return any(HANDS_OVER in line and line.split("=")[0].split(":")[0].strip() in futures for line in lines)


def task_edge(scene: Scene, task: Task) -> Edge:
    """To the worker that runs what the coroutine handed to a thread; else to the loop, which alone can resume it."""
    loop = Edge("task", "{}, which alone can resume it", (identity(scene.loop[-1]),))
    frame = next((one for one in task.frames if is_application(one)), None)
    if frame is None or not scene.loop[-1].idle:
        return loop
    names = {found[1].rpartition(".")[2] for found in TO_THREAD.finditer(statement_at(scene.evidence.sources, frame))}
    runs = [view for view in scene.threads("worker") if not view.idle and entry(view) in names]
    return (
        Edge("future", f"{entry(runs[0])}(), which {{}} runs", tuple(map(identity, runs)), len(runs) == 1)
        if runs
        else loop
    )


def pool_edge(scene: Scene, one: Wait) -> Edge | None:
    """To the worker that runs the submitted function; to all of the pool's threads where it waits in their queue."""
    workers = [view for view in scene.threads("worker") if not view.idle]
    if one.inside(*SHUTDOWN):
        own = [view for view in workers if not is_anyio_worker(view.thread) and not pool_of(view) not in DEFAULT]
        return Edge(
            "join",
            "the threads of a pool, of which {} is one",
            tuple(map(identity, own)),
            False,
            len({pool_of(one) for one in own}) == 1,
        )
    if not one.starts_with(*RESULT) or one.frame is None:
        return None
    lines = scene.evidence.sources.get(one.frame.file, {})
    pairs = [found.groups() for text in lines.values() for found in SUBMITTED.finditer(text)]
    names = {name.rpartition(".")[2] for _, name in pairs}
    runs = [view for view in workers if view.thread != one.view.thread and entry(view) in names]
    if runs:
        return Edge(
            "future", f"the result of {entry(runs[0])}(), which {{}} runs", tuple(map(identity, runs)), len(runs) == 1
        )
    if not pairs or one.view.role != "worker" or scene.shows("concurrent/futures/process.py"):
        return None
    return queue_edge(scene, one, {pool for pool, _ in pairs})


def queue_edge(scene: Scene, one: Wait, receivers: set[str]) -> Edge | None:
    """Nobody runs what it submitted, and no thread of its own pool is free to."""
    prefix = pool_of(one.view)
    members = [view for view in scene.threads("worker") if prefix and pool_of(view) == prefix]
    others = [view for view in scene.threads("worker") if view not in members]
    lines = scene.evidence.sources.get(one.frame.file, {}) if one.frame else {}
    named = {
        found[1]
        for text in lines.values()
        for name in receivers
        if makes(text, name)
        for found in [PREFIX.search(text)]
        if found
    }
    if (
        any(view.idle for view in members)
        or (named and prefix not in named)
        or (not named and any(not v.idle for v in others))
    ):
        return None
    where = "a free thread of its own pool, as {} does"
    return Edge("pool", where, tuple(map(identity, members)), bool(named))


def pool_of(view: View) -> str:
    """The prefix of its name, which all threads of one pool share."""
    return view.thread.name.rpartition("_")[0]


def makes(text: str, name: str) -> bool:
    return re.match(rf"^\s*{re.escape(name)}\s*(?::[^=]+)?=[^=]|.*\bas\s+{re.escape(name)}\s*:", text) is not None


def join_edge(scene: Scene, one: Wait) -> Edge | None:
    """To the thread whose end it waits for."""
    joins = JOINED.search(one.text or "")
    if one.frame is None or not (one.starts_with(*JOIN) or one.leaf and joins and one.in_syscall(*FUTEX)):
        return None
    lines = scene.evidence.sources.get(one.frame.file, {}).values()
    started = [
        found[1].rpartition(".")[2]
        for text in lines
        if joins
        for found in [re.match(THREAD_OF.format(re.escape(joins[1])), text)]
        if found
    ]
    others = [
        view for view in (*scene.threads("other"), *scene.threads("event-loop")) if view.thread != one.view.thread
    ]
    runs = [view for view in others if entry(view) in started or target(view) in started] if started else others
    if len(runs) != 1:
        return None
    return Edge("join", "{} to end", (identity(runs[0]),), bool(started))


def target(view: View) -> str:
    """The name of what `Thread(target=...)` was given, be it a library's: the first call that is not threading's own."""
    return next((frame.name for frame in reversed(view.thread.frames) if not calls(frame, "threading.py")), "")


def entry(view: View) -> str:
    """The name of the function that a thread was started with, or that was submitted to its pool."""
    own = [frame for frame in view.section if is_application(frame)]
    return own[-1].name if own else ""
