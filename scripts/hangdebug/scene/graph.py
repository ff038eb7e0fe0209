"""The one graph of waits: who waits for whom, through locks, futures, joins, pools' queues, and the event loop.

A node is a thread that stands still, or a suspended coroutine that holds a lock of threads and needs the loop to go on.
An edge is drawn only to whoever the evidence names. Whoever waits for a moving thread does not wait for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field

from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, is_anyio_worker, is_application, package
from hangdebug.evidence.kernel import endless, number
from hangdebug.evidence.libraries import IMPORT_LOCK, JOIN, PARKED, RUNS_MODULE, STANDARD_TOPS
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame, Task
from hangdebug.evidence.source import line_at, makers, raw_statement, statement_at
from hangdebug.evidence.vocabulary import EdgeKind
from hangdebug.scene.locks import FUTEX, HELPER, REENTRANT, Held, Lock, locks_held, locks_wanted, same_lock
from hangdebug.scene.pools import DEFAULT_EXECUTORS, prefix_of
from hangdebug.scene.requests import between_jobs, inside_request, waits_for_work
from hangdebug.scene.scene import Scene, View, identity, once
from hangdebug.scene.waits import Wait, wait

MOST_THREADS = 400
RESULT = (
    "concurrent/futures/_base.py:result",
    "concurrent/futures/_base.py:exception",
    "concurrent/futures/_base.py:wait",
)
ASKS_LOOP = (
    "fsspec/asyn.py:sync",
    "distributed/utils.py:sync",
    "anyio/from_thread.py",
    "asgiref/sync.py:__call__",
    "asgiref/current_thread_executor.py:run_until_future",
)
HANDS_TO_LOOP = "run_coroutine_threadsafe"
HANDED = re.compile(r"(?:run_coroutine_threadsafe|from_thread\.run|async_to_sync)\(\s*([A-Za-z_][\w.]*)")
SHUTDOWN = ("concurrent/futures/thread.py:shutdown",)
JOINED = re.compile(r"([A-Za-z_][\w.]*)\.join\(")
THREAD_OF = r"^\s*{}\s*(?::[^=]+)?=.*\bThread\(.*\btarget\s*=\s*([\w.]+)"
SUBMITTED = re.compile(r"([A-Za-z_][\w.]*)\.(?:submit|map)\(\s*([A-Za-z_][\w.]*)")
TO_THREAD = re.compile(
    r"(?:\bto_thread|\brun_sync|\brun_in_threadpool|\brun_in_executor\([^,]+,)\(?\s*([A-Za-z_][\w.]*)"
)
PREFIX = re.compile(r"thread_name_prefix\s*=\s*[\"']([^\"']+)")
MADE = re.compile(r"\bThreadPoolExecutor\(")
SHUT = re.compile(r"([A-Za-z_][\w.]*)\.(?:shutdown|__exit__)\(|\bwith\s+([A-Za-z_][\w.]*)\s*(?:,|:|as\b)")
UNNAMED = "ThreadPoolExecutor-"  # what concurrent.futures calls the threads of a pool without a prefix
WAITS_INSIDE = ("threading.py", "queue.py", "concurrent/futures/")  # they wait on conditions, which others notify
PROCESS_POOL = "concurrent/futures/process.py"


@dataclass(frozen=True)
class Edge:
    """What a node waits for: it goes on when `every` one of `targets` does, or else when one of them does.

    `through` says what lies between, with {} where the target's name belongs.
    """

    kind: EdgeKind
    through: str
    targets: tuple[object, ...]
    sure: bool = True
    every: bool = False
    concluded: bool = False  # from who is at work at all: no line and no name says it


@dataclass(frozen=True)
class Graph:
    """The waits by node, the edges by node, and the suspended coroutines that hold a lock."""

    waits: Mapping[object, Wait]
    edges: Mapping[object, Edge]
    tasks: Mapping[object, Held] = field(default_factory=dict)


@once
def graph(scene: Scene) -> Graph:
    """Of the threads that stand in one place in every sample, and do not wake."""
    still = {
        identity(view): one
        for view in scene.last[:MOST_THREADS]
        if not view.idle and view.section
        for one in [wait(scene, view)]
        if sleeps_in_place(one)
    }
    known: dict[int, tuple[Held, ...]] = {}  # by the id of the frames: a thousand threads share a few stacks

    def held(frames: tuple[Frame, ...]) -> tuple[Held, ...]:
        if id(frames) not in known:
            known[id(frames)] = tuple(locks_held(frames, scene.evidence.sources))
        return known[id(frames)]

    holders = {key: held(one.view.thread.frames) for key, one in still.items()}
    moving = {
        identity(view): held(view.thread.frames)
        for view in scene.last[:MOST_THREADS]
        if identity(view) not in still and not view.idle
    }
    inside = tuple(suspended_in_lock(scene))
    tasks: dict[object, Held] = {("task", task.name): one for task, one in inside}
    edges: dict[object, Edge] = {}
    for key, one in still.items():
        edge = (
            lock_edge(scene, key, one, {**moving, **holders}, tasks, still)
            or swapped_locks_edge(scene, key, one, still)
            or import_edge(scene, one)
            or library_lock_edge(scene, one)
            or loop_edge(scene, one)
            or pool_edge(scene, one)
            or join_edge(scene, one)
            or giver_edge(scene, one)
        )
        if edge is not None and edge.targets and not (is_timed(one) and edge.kind == "lock"):
            edges[key] = edge
    asking = None if scene.loop else waits_for_idle_loop(scene)
    if asking is not None:  # the loop of a helper's thread, seen from the main thread
        edges[identity(asking[0].view)] = Edge("loop", "a coroutine that it handed to {}", (identity(asking[1]),))
    if scene.loop:
        edges.update({("task", task.name): task_edge(scene, task) for task, _ in inside})
    return Graph(still, edges, tasks)


def sleeps_in_place(one: Wait) -> bool:
    """In one place in every sample, and asleep."""
    return one.motion.in_place and not one.running and not one.motion.woke


def is_timed(one: Wait) -> bool:
    """Whether the kernel says that this wait ends by itself."""
    return one.kernel is not None and one.kernel.syscall == "futex" and not endless(one.kernel.args)


def suspended_in_lock(scene: Scene) -> Iterator[tuple[Task, Held]]:
    """The coroutines that await inside of a lock of threads. One that runs now is on the loop's stack, and left out."""
    on_stack = {(frame.function, frame.file, frame.line) for view in scene.loop[-1:] for frame in view.section}
    for task in scene.evidence.later or scene.evidence.tasks:
        running = any(
            (frame.function, frame.file, frame.line) in on_stack for frame in task.frames if is_application(frame)
        )
        if task.state == "pending" and not running:
            for one in locks_held(task.frames, scene.evidence.sources):
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
    owner = one.kernel.owner if one.kernel is not None else 0
    has = [view for view in scene.last if owner and view.thread.os_id == owner]
    if has:
        wanted = next((f"`{lock.name}`" for lock in locks_wanted(one, scene.evidence.sources)), "a lock")
        return Edge("lock", f"{wanted}, which {{}} has", (identity(has[0]),))
    for lock in locks_wanted(one, scene.evidence.sources):
        found = {
            target: (mine, same_lock(lock, mine.lock))
            for target, all_ in holders.items()
            for mine in all_
            if same_lock(lock, mine.lock) is not None
            and (target == key or not before_one_lock(scene, one, still.get(target)))
        }
        found.update(
            {
                target: (mine, same_lock(lock, mine.lock))
                for target, mine in tasks.items()
                if same_lock(lock, mine.lock) is not None
            }
        )
        certain = {target: pair for target, pair in found.items() if pair[1]}
        found = certain or found
        if key in found and not certain:
            found = {target: pair for target, pair in found.items() if target != key} or (
                {key: (found[key][0], True)} if is_one_object(scene, one, lock, found[key][0]) else {}
            )
        if key in found and (
            set(lock.kinds) & set(REENTRANT) or (found[key][0].by_hand and may_wait_on_purpose(scene, one))
        ):
            continue
        if found:
            mine, sure = next(iter(found.values()))
            return Edge(
                "lock", f"`{lock.name}`, which {{}} took in {mine.frame}", tuple(found), bool(sure) and len(found) == 1
            )
    return remaining_edge(scene, key, one, holders)


def remaining_edge(scene: Scene, key: object, one: Wait, holders: Mapping[object, tuple[Held, ...]]) -> Edge | None:
    """To those who alone can be inside of the lock, where no name says who is: all others are idle, or before it too.

    Threads that are seen inside of some lock come before those that are only at work. Without the kernel nobody can be
    told apart, and a counted lock is released by anybody.
    """
    wanted = locks_wanted(one, scene.evidence.sources)
    if not before_a_lock(scene, one):
        return None
    others = [
        view
        for view in scene.last[:MOST_THREADS]
        if identity(view) != key and at_work(scene, view) and not before_one_lock(scene, one, wait(scene, view))
    ]
    inside = [
        view
        for view in others
        if any(
            may_be(wanted, mine.lock) and not (mine.by_hand and may_wait_on_purpose(scene, wait(scene, view)))
            for mine in holders.get(identity(view), ())
        )
    ]
    found = inside or [view for view in others if not waits_for_work(view) and not between_jobs(wait(scene, view))]
    several = len(found) > 1 and not all(before_a_lock(scene, wait(scene, view)) for view in found)
    if not found or (not inside and (several or holders.get(key) or may_wait_on_purpose(scene, one))):
        return None
    what = "is inside of a lock that may be it" if inside else "is the only one at work that does not wait for it"
    what = "is one of those who alone may be inside of it" if not inside and len(found) > 1 else what
    return Edge("lock", f"`{wanted[0].name}`, and {{}} {what}", tuple(map(identity, found)), False, concluded=True)


def may_wait_on_purpose(scene: Scene, one: Wait) -> bool:
    """Whether nobody waits for the thread's work: it may stand before a lock until somebody opens it."""
    return one.view.role not in ("event-loop", "worker") and not inside_request(scene, one.view)


def before_a_lock(scene: Scene, one: Wait) -> bool:
    """Whether the kernel has it, without a timeout, before a lock that the application's line takes."""
    wanted = locks_wanted(one, scene.evidence.sources)
    known = bool(wanted) and one.leaf and futex_address(scene, one) is not None
    return known and not is_timed(one) and not counted_lock(wanted[0])


def counted_lock(lock: Lock) -> bool:
    return bool(lock.kinds & {"Semaphore", "BoundedSemaphore"})


def may_be(wanted: tuple[Lock, ...], lock: Lock) -> bool:
    """Whether a held lock may be the wanted one under another name: a function was given one of the two, or both."""
    return (
        any(is_given(one) or is_given(lock) for one in wanted if HELPER not in one.kinds) and HELPER not in lock.kinds
    )


def is_given(lock: Lock) -> bool:
    """Whether it bears a name that any object may have: a parameter's, or an attribute of one."""
    return not lock.sure and not lock.owner and not lock.kinds and not lock.name.startswith(("self.", "cls."))


def swapped_locks_edge(scene: Scene, key: object, one: Wait, still: Mapping[object, Wait]) -> Edge | None:
    """To the thread that has the same two locks in the other order, where addresses are all that is known.

    Each of the two stands in a C call of its own function, and the order of the names is that of the arguments: it
    takes them in that order as well.
    """
    pair = known_locks(scene, one)
    if len(pair) != 2:
        return None
    others = [other for other, wait_ in still.items() if other != key and known_locks(scene, wait_) == pair[::-1]]
    if len(others) != 1:
        return None
    words = f"one of the locks at {pair[0]} and {pair[1]}, which {{}} has in the other order"
    return Edge("lock", words, (others[0],), sure=False, concluded=True)


def known_locks(scene: Scene, one: Wait) -> tuple[str, ...]:
    """The addresses of the locks in the frame that makes the C call, () where its source line says more than that."""
    if one.frame is None or not one.leaf or one.text is not None:
        return ()
    return tuple(one.frame.locals[name] for name in one.frame.locks)


def before_one_lock(scene: Scene, one: Wait, other: Wait | None) -> bool:
    """Whether the kernel shows both before the same lock: then neither is inside of it."""
    address = futex_address(scene, one)
    return other is not None and address is not None and address == futex_address(scene, other)


def futex_address(scene: Scene, one: Wait) -> int | None:
    """The address of the lock that the thread waits for. Equal addresses are one lock.

    From Python 3.14 on each thread waits at an address of its own: there its memory has to tell for which lock.
    """
    if one.kernel is not None and one.kernel.lock:
        return one.kernel.lock
    minor = (scene.evidence.process.python or scene.evidence.snapshots[-1].python or "").split(".")[1:2]
    parked = bool(minor) and number(minor[0]) > 13
    return one.args[0] if one.in_syscall("futex") and one.args and not parked else None


def is_one_object(scene: Scene, one: Wait, lock: Lock, mine: Held) -> bool:
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


def import_edge(scene: Scene, one: Wait) -> Edge | None:
    """To the threads in the middle of an import, from one that waits for the lock of a module."""
    if not one.view.inner or not calls(one.view.inner[0], *IMPORT_LOCK):
        return None
    others = [
        view
        for view in scene.last[:MOST_THREADS]
        if view.thread != one.view.thread and any(calls(frame, *RUNS_MODULE) for frame in view.thread.frames)
    ]
    running = [view for view in others if not calls(view.thread.frames[0], *IMPORT_LOCK)] or others
    return Edge("lock", "a module, which {} imports", tuple(map(identity, running)), len(running) == 1)


def library_lock_edge(scene: Scene, one: Wait) -> Edge | None:
    """To the thread that is inside of a library's function, from one that stands before a lock in the same function.

    The library's source is not read: whoever is further down in it, and called on from there, has passed the lock.
    Without the kernel's word another library's function may wait for a peer there; few of the standard library's do.
    """
    frame = one.view.inner[0] if one.view.inner else None
    if frame is None or calls(frame, *WAITS_INSIDE):
        return None
    unasked = one.running is False and package(frame) in STANDARD_TOPS
    if not (one.in_syscall(*FUTEX) and not is_timed(one) if one.syscall is not None else unasked):
        return None
    found = [
        view
        for view in scene.last[:MOST_THREADS]
        if view.thread != one.view.thread and not view.idle and passed(view.thread.frames, frame)
    ]
    if len(found) != 1:
        return None
    through = f"a lock in {frame.function}, where {{}} is further on"
    return Edge("lock", through, (identity(found[0]),), False, concluded=True)


def passed(frames: tuple[Frame, ...], place: Frame) -> bool:
    """Whether the stack is further down in the function of `place`, and has called on from there, for no lock."""
    return any(
        (outer.function, outer.file) == (place.function, place.file)
        and (outer.line or 0) > (place.line or 0)
        and not calls(inner, "threading.py")
        for inner, outer in zip(frames, frames[1:])
    )


def loop_edge(scene: Scene, one: Wait) -> Edge | None:
    """To the event loop: from a worker that waits for a coroutine there, or from the loop's own thread that does."""
    if not scene.loop or not asks_loop(scene, one):
        return None
    if one.view.role != "event-loop":
        return Edge("loop", "a coroutine that it handed to {}", (identity(scene.loop[-1]),))
    if one.starts_with(*RESULT) and not another_loop_runs(scene, one):
        return Edge("loop", "a coroutine that it handed to its own event loop", (identity(one.view),))
    return None


def waits_for_idle_loop(scene: Scene) -> tuple[Wait, View] | None:
    """A thread that waits for a coroutine which it handed to another thread's idle loop, and that loop's thread.

    A library that hands coroutines over shows it; else it is concluded where the main thread waits for a future, and
    nobody but a loop is left to complete it. A pool's thread may as well have asked its own pool.
    """
    loops = [view for view in scene.last if view.role == "event-loop"]
    if not loops or not all(view.idle for view in loops):
        return None
    busy = [wait(scene, view) for view in scene.last if view.role != "event-loop" and not view.idle and view.section]
    asking = [one for one in busy if one.motion.in_place and waits_for_future(one)]
    others = [one for one in busy if one not in asking and not one.starts_with(*PARKED) and one.frame is not None]
    sure = [one for one in asking if one.inside(*ASKS_LOOP)]
    alone = len(asking) == 1 and asking[0].view.role == "main" and not others and not scene.shows(PROCESS_POOL)
    found = sure or (asking if alone else [])
    return (max(found, key=lambda one: (one.frame is not None, one.view.role == "main")), loops[0]) if found else None


def waits_for_future(one: Wait) -> bool:
    """Whether it waits for the result of a future, or for a loop that it has handed a coroutine to."""
    return one.inside(*RESULT, *ASKS_LOOP) and not one.inside(*SHUTDOWN)


def asks_loop(scene: Scene, one: Wait) -> bool:
    """Whether it waits for a coroutine that it handed to a loop, through a library or by the application's own line."""
    through_library = one.inside(*ASKS_LOOP) and one.view.role != "event-loop"
    return through_library or (one.starts_with(*RESULT) and hands_to_loop(scene, one))


def hands_to_loop(scene: Scene, one: Wait) -> bool:
    """Whether the line, or the one that made the future it waits for, hands a coroutine to a loop."""
    return any(name.endswith(HANDS_TO_LOOP) for name in one.called) or any(
        HANDS_TO_LOOP in line for line in lines_of_call(scene, one)
    )


def lines_of_call(scene: Scene, one: Wait) -> Iterator[str]:
    """The statement in which it waits, and the lines that made the futures of whose results it speaks."""
    if one.frame is None:
        return
    yield statement_at(scene.evidence.sources, one.frame)
    futures = {name.rpartition(".")[0] for name in one.called if name.rpartition(".")[2] in ("result", "exception")}
    for line in scene.evidence.sources.get(one.frame.file, {}).values() if futures else ():
        if line.split("=")[0].split(":")[0].strip() in futures:
            yield line


def handed_coroutines(scene: Scene, one: Wait) -> set[str]:
    """The names of the coroutine functions that a thread has handed to a loop, and waits for."""
    lines = lines_of_call(scene, one) if asks_loop(scene, one) else ()
    return {found[1].rpartition(".")[2] for line in lines for found in HANDED.finditer(line)}


def giver_edge(scene: Scene, one: Wait) -> Edge | None:
    """From the loop's thread to whoever could give it what it waits for, where no name says who does.

    Any thread at work may be the giver. Where nobody is at work, the loop itself would have to give a result.
    """
    if one.view.role != "event-loop" or another_loop_runs(scene, one):
        return None
    for_result = one.starts_with(*RESULT)
    if not (for_result or one.inside_package("concurrent", "threading", "queue") or one.in_syscall("futex")):
        return None
    if one.inside(*SHUTDOWN) or one.starts_with(*JOIN):
        return None  # it waits for threads to end, which pool_edge and join_edge know better
    givers = [view for view in scene.last if view.thread != one.view.thread and at_work(scene, view)]
    asking = [view for view in givers if asks_loop(scene, wait(scene, view))]
    if (
        for_result
        and not asking
        and not future_made_here(scene, one)
        and nobody_gives_result(scene)
        and has_all_threads(scene)
    ):
        return Edge("loop", "a result that no other thread works on", (identity(one.view),), concluded=True)
    kind: EdgeKind = "future" if one.inside_package("concurrent") else "lock"
    targets = tuple(map(identity, givers))
    through = "what only a thread at work could give, as {} is"
    return Edge(kind, through, targets, len(targets) == 1, concluded=True)


def at_work(scene: Scene, view: View) -> bool:
    """Whether a thread is in the application's code, or was called from it, and does not just wait for work."""
    return not view.idle and view.frame is not None and not wait(scene, view).starts_with(*PARKED)


def another_loop_runs(scene: Scene, one: Wait) -> bool:
    """Whether another thread runs an event loop as well: then the coroutine may have been handed to that one."""
    return any(view.role == "event-loop" and view.thread != one.view.thread for view in scene.last)


def future_made_here(scene: Scene, one: Wait) -> bool:
    """Whether the source shows what made the future that is waited for, and no loop was asked for it."""
    names = {name.rpartition(".")[0] for name in one.called if name.rpartition(".")[2] in ("result", "exception")}
    return one.frame is not None and any(makers(scene.evidence.sources, one.frame, name) for name in names if name)


def nobody_at_work(scene: Scene) -> bool:
    """Whether each thread is a loop's or idle, and no process pool is in use: nobody can complete a future."""
    return all(view.role == "event-loop" or view.idle for view in scene.last) and not any(
        calls(frame, PROCESS_POOL) for view in scene.last for frame in view.thread.frames
    )


def nobody_gives_result(scene: Scene) -> bool:
    """Whether nobody is at work, or each thread that is at work waits for a future itself."""
    if scene.shows(PROCESS_POOL):
        return False
    return nobody_at_work(scene) or all(view.idle or wait(scene, view).starts_with(*RESULT) for view in scene.last)


def has_all_threads(scene: Scene) -> bool:
    """Whether the dump has all threads of its process: one without a process's number may be a part only."""
    snapshot = scene.evidence.snapshots[-1]
    return snapshot.pid is not None or (snapshot.format == "py-spy JSON" and nobody_at_work(scene))


def task_edge(scene: Scene, task: Task) -> Edge:
    """To the worker that runs what the coroutine handed to a thread; else to the loop, which alone can resume it."""
    loop = Edge("task", "{}, which alone can resume it", (identity(scene.loop[-1]),))
    frame = next((one for one in task.frames if is_application(one)), None)
    if frame is None or not scene.loop[-1].idle:
        return loop
    names = {found[1].rpartition(".")[2] for found in TO_THREAD.finditer(statement_at(scene.evidence.sources, frame))}
    runs = [view for view in scene.threads("worker") if not view.idle and entry_function(view) in names]
    return (
        Edge("future", f"{entry_function(runs[0])}(), which {{}} runs", tuple(map(identity, runs)), len(runs) == 1)
        if runs
        else loop
    )


def pool_edge(scene: Scene, one: Wait) -> Edge | None:
    """To the worker that runs the submitted function; to all of the pool's threads where it waits in their queue."""
    if one.inside(*SHUTDOWN):
        workers = [view for view in scene.threads("worker") if not view.idle]
        return joined_pool_edge(scene, one, [view for view in workers if not is_anyio_worker(view.thread)])
    if not one.starts_with(*RESULT) or one.frame is None:
        return None
    lines = scene.evidence.sources.get(one.frame.file, {})
    pairs = [found.groups() for text in lines.values() for found in SUBMITTED.finditer(text)]
    names = {name.rpartition(".")[2] for _, name in pairs}
    others = scene.threads("worker") if names else ()
    runs = [
        view for view in others if not view.idle and view.thread != one.view.thread and entry_function(view) in names
    ]
    if runs:
        return Edge(
            "future",
            f"the result of {entry_function(runs[0])}(), which {{}} runs",
            tuple(map(identity, runs)),
            len(runs) == 1,
        )
    if not pairs or one.view.role != "worker" or scene.shows("concurrent/futures/process.py"):
        return None
    return queue_edge(scene, one, {pool for pool, _ in pairs})


def joined_pool_edge(scene: Scene, one: Wait, workers: list[View]) -> Edge:
    """To the threads of the pool that is shut down: it goes on when all of them do.

    The application joins pools of its own, and only asyncio the default executor. Where several pools could be meant,
    it is stuck for certain only if every thread of them is.
    """
    prefix = joined_prefix(scene, one)
    own = [view for view in workers if (prefix_of(view) in DEFAULT_EXECUTORS) == (one.frame is None)]
    if prefix is not None:
        own = [
            view for view in own if prefix_of(view) == prefix or (not prefix and prefix_of(view).startswith(UNNAMED))
        ]
    pools = {prefix_of(view) for view in own}
    return Edge(
        "join",
        "the threads of a pool, of which {} is one",
        tuple(map(identity, own)),
        prefix is not None and len(pools) == 1,
        len(pools) == 1,
    )


def joined_prefix(scene: Scene, one: Wait) -> str | None:
    """The prefix that the source gives the threads of the pool that is shut down; "" for none, None if not known."""
    if one.frame is None:
        return None
    known = scene.evidence.sources.get(one.frame.file, {})
    text = raw_statement(known, one.frame.line or 0)
    made = [text] if MADE.search(text) else []
    for name in (found[1] or found[2] for found in SHUT.finditer(text)):
        made += [raw_statement(known, number) for number in known if line_binds(known[number], name)]
    prefixes = {(PREFIX.search(line) or ["", ""])[1] for line in made if MADE.search(line)}
    return prefixes.pop() if len(prefixes) == 1 else None


def queue_edge(scene: Scene, one: Wait, receivers: set[str]) -> Edge | None:
    """Nobody runs what it submitted, and no thread of its own pool is free to."""
    prefix = prefix_of(one.view)
    members = [view for view in scene.threads("worker") if prefix and prefix_of(view) == prefix]
    others = [view for view in scene.threads("worker") if view not in members]
    lines = scene.evidence.sources.get(one.frame.file, {}) if one.frame else {}
    named = {
        found[1]
        for text in lines.values()
        for name in receivers
        if line_binds(text, name)
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


def line_binds(text: str, name: str) -> bool:
    return re.match(rf"^\s*{re.escape(name)}\s*(?::[^=]+)?=[^=]|.*\bas\s+{re.escape(name)}\s*:", text) is not None


def join_edge(scene: Scene, one: Wait) -> Edge | None:
    """To the thread whose end it waits for."""
    joins = JOINED.search(one.text or "")
    if one.frame is None or not (one.starts_with(*JOIN) or (one.leaf and joins and one.in_syscall(*FUTEX))):
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
    runs = (
        [view for view in others if entry_function(view) in started or thread_target(view) in started]
        if started
        else others
    )
    if len(runs) != 1:
        return None
    return Edge("join", "{} to end", (identity(runs[0]),), bool(started))


def thread_target(view: View) -> str:
    """The name of what `Thread(target=...)` was given, a library's too: the first call that is not threading's own."""
    return next((frame.name for frame in reversed(view.thread.frames) if not calls(frame, "threading.py")), "")


def entry_function(view: View) -> str:
    """The name of the function that a thread was started with, or that was submitted to its pool."""
    own = [frame for frame in view.section if is_application(frame)]
    return own[-1].name if own else ""
