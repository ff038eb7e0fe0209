"""Pools of threads: who belongs to which, how many each may have, and whether one is full of stuck calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, is_anyio_worker, is_application
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Task
from hangdebug.evidence.source import line_at, makers, statement_at
from hangdebug.scene.scene import Scene, View, identity, once
from hangdebug.scene.waits import Wait, file_and_line, motion_between, stuck_workers

ANYIO_TOKENS = 40  # anyio.to_thread.current_default_thread_limiter().total_tokens, which Starlette uses
DEFAULT_EXECUTORS = ("asyncio", "uvloop")  # each loop's prefix for the names of its default executor's threads
MAKES = re.compile(r"\bThreadPoolExecutor\((?P<arguments>.*)$")
SIZE = re.compile(r"(?:^|\bmax_workers\s*=)\s*(\d+)\s*(?:,|\)|$)")
PREFIX = re.compile(r"""\bthread_name_prefix\s*=\s*f?["']([^"'{}]*)["']""")
HANDS_TO_POOL = ("run_in_executor", "to_thread", "wrap_future")
LIBRARY_HANDS_TO_POOL = ("asyncio/threads.py:to_thread", "asgiref/sync.py:__call__")


@dataclass(frozen=True)
class Pool:
    """A pool's threads in the last sample. `limit` is how many it may have, None where that is not known."""

    name: str
    members: tuple[View, ...]
    limit: int | None
    by_source: bool = False  # its size is the source's word: nothing is known of its queue


@dataclass(frozen=True)
class FullPool:
    """A pool with every thread at work in one place: their waits, how many calls are queued (None where that is not
    known), and how many of the threads woke while they were watched."""

    pool: Pool
    members: tuple[Wait, ...]
    queue: int | None
    woke: int

    @property
    def one_moment(self) -> bool:
        return self.members[0].motion.samples == 1

    @property
    def goes_on(self) -> bool:
        """Whether so many of its threads woke that its calls are short ones."""
        return not self.one_moment and self.woke * 4 > len(self.members)

    def words(self) -> tuple[str, str]:
        top = sum(file_and_line(one) == file_and_line(self.members[0]) for one in self.members)
        queued = (
            f"{self.queue} call{'s wait' if self.queue > 1 else ' waits'}" if self.queue else "a further one would wait"
        )
        count = len(self.members)
        return (
            f"All {count} threads of {self.pool.name} are stuck, {top} of them in one line; the event loop is idle.",
            f"It runs at most {self.pool.limit or count} calls at a time, so {queued} in its queue.",
        )

    def serves_each_client(self, scene: Scene) -> bool:
        """Whether there are as many threads as connected clients, so that nobody may have to wait."""
        clients = scene.evidence.clients
        return not self.queue and clients is not None and clients.open <= len(self.members)


def prefix_of(view: View) -> str:
    """The part of its name that all threads of one pool share: "asyncio" of "asyncio_3"."""
    return view.thread.name.rpartition("_")[0]


def in_default_executor(view: View) -> bool:
    return view.role == "worker" and prefix_of(view) in DEFAULT_EXECUTORS


@once
def pools(scene: Scene) -> tuple[Pool, ...]:
    groups: dict[str, list[View]] = {}
    for view in scene.threads("worker"):
        key = "AnyIO" if is_anyio_worker(view.thread) else prefix_of(view)
        groups.setdefault(key, []).append(view)
    found = (pool_of_key(scene, key, tuple(members)) for key, members in groups.items())
    tokens = limiter_tokens(scene)
    return tuple(
        replace(one, limit=tokens) if tokens and is_anyio_worker(one.members[0].thread) else one for one in found
    )


def limiter_tokens(scene: Scene) -> int | None:
    """How many threads AnyIO's limiter allows, where tasks queue for one in every reading of them; None elsewhere."""
    lists = [one for one in (scene.evidence.tasks, scene.evidence.later) if one]
    queues = [
        {
            (task.id, task.awaits.counts.get("tokens"))
            for task in one
            if task.awaits and task.awaits.kind == "CapacityLimiter"
        }
        for one in lists
    ]
    both = set.intersection(*queues) if queues else set()
    return min((tokens for _, tokens in both if tokens), default=None)


def pool_of_key(scene: Scene, key: str, members: tuple[View, ...]) -> Pool:
    cpus = scene.evidence.process.cpus
    if key == "AnyIO":
        return Pool("AnyIO's thread limiter", members, ANYIO_TOKENS)
    if key in DEFAULT_EXECUTORS:  # ThreadPoolExecutor's default size
        return Pool("the default executor", members, min(32, cpus + 4) if cpus else None)
    return Pool(f"the pool {key}", members, size_in_source(scene, key), True)


def size_in_source(scene: Scene, key: str) -> int | None:
    """How many workers the source gives the pool whose threads are called `key`_0 and so on; None if not known."""
    sizes = []
    for lines in scene.evidence.sources.values():
        for number in lines:
            made = MAKES.search(lines[number].partition("#")[0])
            if not made:
                continue
            text = " ".join(lines.get(number + more, "").partition("#")[0].strip() for more in range(1, 4))
            arguments = made["arguments"] if ")" in made["arguments"] else f"{made['arguments']} {text}"
            prefix, size = PREFIX.search(arguments), SIZE.search(arguments.strip())
            if (
                key == prefix[1]
                if prefix
                else key.startswith("ThreadPoolExecutor-") and "thread_name_prefix" not in arguments
            ):
                sizes.append(int(size[1]) if size else 0)
    return max(sizes) if sizes and all(sizes) else None


def stuck_members(scene: Scene, pool: Pool) -> list[Wait]:
    """The pool's threads that stand in one place in every sample, those of the commonest place first."""
    stuck = {identity(one.view): one for one in stuck_workers(scene)}
    held = [stuck[identity(view)] for view in pool.members if identity(view) in stuck]
    places = Counter(map(file_and_line, held))
    return sorted(held, key=lambda one: -places[file_and_line(one)])


@once
def full_pool(scene: Scene) -> FullPool | None:
    """The first pool at its known size, or with calls in its queue, whose threads are all stuck in one place each."""
    for pool in pools(scene):
        members, queue = stuck_members(scene, pool), queue_length(scene, pool)
        sized = pool.limit is not None and len(members) >= pool.limit
        if pool.by_source and queue is None and scene.evidence.later:
            sized = False  # the tasks tell whether anything waits for the pool
        if sized or (queue and len(members) == len(pool.members)):
            return FullPool(pool, tuple(members), queue, sum(woke_by_itself(scene, one) for one in members))
    return None


def queue_length(scene: Scene, pool: Pool) -> int | None:
    """How many calls wait for a thread of the pool, None where that is not known."""
    if is_anyio_worker(pool.members[0].thread):
        return queued_at_limiter(scene)
    return max(queue_lengths(scene, pool.members), default=None)


def queue_lengths(scene: Scene, views: Iterable[View]) -> list[int]:
    """How many calls wait in the queues that these threads serve, for each thread of which that is known."""
    queued, ids = scene.evidence.queued, (view.thread.os_id for view in views)
    return [queued[os_id] for os_id in ids if os_id is not None and os_id in queued]


def calls_left_behind(scene: Scene) -> int:
    """How many calls wait, at the most, in the queue of a pool of which no thread is in this process.

    After a fork the child has a copy of the pool's books, and none of its threads.
    """
    readings = [one for one in (*scene.evidence.readings, *scene.evidence.attached) if one is not None]
    living = {view.thread.os_id for view in scene.last}.union(*(one.waits for one in readings))
    return max((count for os_id, count in scene.evidence.queued.items() if os_id not in living), default=0)


def queued_at_limiter(scene: Scene) -> int | None:
    """How many tasks wait for a token of one of AnyIO's limiters, None where not all tasks are known."""
    if not scene.evidence.later or scene.evidence.unread:
        return None
    return sum(task.awaits is not None and task.awaits.kind == "CapacityLimiter" for task in scene.evidence.later)


def pool_without_spare(scene: Scene) -> Pool | None:
    """A pool with every thread in a call that stands still, though nothing is known to wait for it."""
    stuck = {
        identity(one.view) for one in stuck_workers(scene) if one.motion.samples > 1 and not woke_by_itself(scene, one)
    }
    return next(
        (
            pool
            for pool in pools(scene)
            if pool.limit is not None
            and len(pool.members) >= pool.limit
            and all(identity(view) in stuck for view in pool.members)
        ),
        None,
    )


def pool_with_waiting_calls(scene: Scene) -> tuple[Pool, int, int] | None:
    """A pool whose threads are all stuck while more coroutines wait for calls in pools than pools have threads at work.

    A pool starts a thread for each call until it is full, so a queue means that it is, whatever its size. Answers with
    the pool, how many coroutines wait and how many calls are under way.
    """
    busy = [view for view in scene.threads("worker") if not view.idle and not is_anyio_worker(view.thread)]
    waiting = tasks_in_pools(scene)
    if not busy or len(waiting) <= len(busy) or uses_processes(scene):
        return None
    stuck = {
        identity(one.view) for one in stuck_workers(scene) if one.motion.samples > 1 and not woke_by_itself(scene, one)
    }
    full = [
        pool
        for pool in pools(scene)
        if pool.members[0] in busy
        and all(identity(view) in stuck for view in pool.members)
        and (pool.limit is None or pool.limit <= len(pool.members))  # else it would start a thread for the next call
    ]
    best = max(full, key=lambda pool: (pool.limit is not None, len(pool.members)), default=None)
    return (best, len(waiting), len(busy)) if best is not None else None


def uses_processes(scene: Scene) -> bool:
    """Whether a thread serves a pool of processes: calls that wait may then be at work elsewhere."""
    return any(calls(frame, "concurrent/futures/process.py") for view in scene.last for frame in view.thread.frames)


@once
def tasks_in_pools(scene: Scene) -> tuple[Task, ...]:
    """The tasks that wait for a call in a pool of threads, for the same one in both readings."""
    before = {(task.id, task.awaits.id) for task in scene.evidence.tasks if task.awaits}
    return tuple(
        task
        for task in scene.evidence.later
        if task.awaits
        and task.awaits.kind == "Future"
        and (task.id, task.awaits.id) in before
        and hands_to_pool(scene, task)
    )


def hands_to_pool(scene: Scene, task: Task) -> bool:
    own = next((index for index, frame in enumerate(task.frames) if is_application(frame)), len(task.frames))
    return any(calls(frame, *LIBRARY_HANDS_TO_POOL) for frame in task.frames[:own]) or line_names(
        scene, task, HANDS_TO_POOL
    )


def line_names(scene: Scene, task: Task, words: tuple[str, ...]) -> bool:
    """Whether the application's innermost line has one of the words, or the line that made what it names."""
    frame = next((one for one in task.frames if is_application(one)), None)
    if frame is None:
        return False
    statement = statement_at(scene.evidence.sources, frame)
    made = (maker for name in re.findall(r"\w+", statement) for maker in makers(scene.evidence.sources, frame, name))
    return any(word in text for text in (statement, *made) for word in words)


def woke_by_itself(scene: Scene, one: Wait) -> bool:
    """Whether a waiting thread woke by itself, with nobody attached."""
    watched, _, _ = motion_between(scene.evidence.watch, one.view.thread.os_id)
    return bool(one.motion.woke or watched)


# -- a client that has its connections to itself ---------------------------------------------------------

# It runs each request in a task of its own, and its call gives a bare future, which has no frame.
RUNS_REQUEST, FETCH = ("tornado/simple_httpclient.py:run",), ".fetch("


def requests_under_way(scene: Scene) -> int:
    """How many requests such a client has begun, and has a connection for."""
    return sum(any(calls(frame, *RUNS_REQUEST) for frame in task.frames) for task in scene.evidence.later)


def coroutines_asking(scene: Scene) -> int:
    """How many coroutines await such a client's answer, in the same line in both readings of the tasks."""
    before = {task.id: task.frames for task in scene.evidence.tasks}
    same = [task.frames[0] for task in scene.evidence.later if task.frames and before.get(task.id) == task.frames]
    return sum(is_application(one) and FETCH in (line_at(scene.evidence.sources, one) or "") for one in same)
