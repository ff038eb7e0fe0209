"""Pools of threads: who belongs to which, how many each may have, and whether one is full of stuck calls."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from hangdebug.answer.model import Verdict
from hangdebug.causes.connection_pool import checkout
from hangdebug.evidence.frames import calls, is_application
from hangdebug.evidence.model import Task
from hangdebug.evidence.roles import is_anyio_worker
from hangdebug.evidence.source import makers, statement_at
from hangdebug.scene.scene import Scene, View, identity
from hangdebug.scene.waits import Wait, movement, place, stuck_workers

ANYIO_TOKENS = 40  # anyio.to_thread.current_default_thread_limiter().total_tokens, which Starlette uses
MAKES = re.compile(r"\bThreadPoolExecutor\((?P<arguments>.*)$")
SIZE = re.compile(r"(?:^|\bmax_workers\s*=)\s*(\d+)\s*(?:,|\)|$)")
PREFIX = re.compile(r"""\bthread_name_prefix\s*=\s*f?["']([^"'{}]*)["']""")
HANDS_OVER = ("run_in_executor", "to_thread", "wrap_future")
LIBRARY_HANDS_OVER = ("asyncio/threads.py:to_thread", "asgiref/sync.py:__call__")


@dataclass(frozen=True)
class Pool:
    """A pool's threads in the last sample. `limit` is how many it may have, None where that is not known."""

    name: str
    members: tuple[View, ...]
    limit: int | None
    said: bool = False  # by the source: nothing is known of its queue


def pools(scene: Scene) -> tuple[Pool, ...]:
    groups: dict[str, list[View]] = {}
    for view in scene.threads("worker"):
        key = "AnyIO" if is_anyio_worker(view.thread) else view.thread.name.rpartition("_")[0]
        groups.setdefault(key, []).append(view)
    found = (named(scene, key, tuple(members)) for key, members in groups.items())
    tokens = limiter(scene)
    return tuple(
        replace(one, limit=tokens) if tokens and is_anyio_worker(one.members[0].thread) else one for one in found
    )


def limiter(scene: Scene) -> int | None:
    """How many threads AnyIO's limiter gives out, where tasks queue for one in every reading of them; None elsewhere."""
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


def named(scene: Scene, key: str, members: tuple[View, ...]) -> Pool:
    cpus = scene.evidence.process.cpus
    if key == "AnyIO":
        return Pool("AnyIO's thread limiter", members, ANYIO_TOKENS)
    if key in ("asyncio", "uvloop"):  # ThreadPoolExecutor's default size
        return Pool("the default executor", members, min(32, cpus + 4) if cpus else None)
    return Pool(f"the pool {key}", members, written(scene, key), True)


def written(scene: Scene, key: str) -> int | None:
    """How many workers the source gives the pool whose threads are called `key`_0 and so on; None where it does not say."""
    sizes = []
    for file, lines in scene.evidence.sources.items():
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


def full(scene: Scene) -> tuple[Verdict, Wait] | None:
    """A pool with every thread stuck, that is at its known size or has calls in its queue."""
    stuck = {identity(one.view): one for one in stuck_workers(scene)}
    for pool in pools(scene):
        held = [stuck[identity(view)] for view in pool.members if identity(view) in stuck]
        queue = queue_of(scene, pool)
        sized = pool.limit is not None and len(held) >= pool.limit
        if pool.said and queue is None and scene.evidence.later:
            sized = False  # the tasks tell whether anything waits for the pool
        if not sized and not (queue and len(held) == len(pool.members)):
            continue
        places = Counter(map(place, held))
        held.sort(key=lambda one: -places[place(one)])
        top = places[place(held[0])]
        if queue == 0:
            return at_work(pool, held)
        queued = f"{queue} call{'s wait' if queue > 1 else ' waits'}" if queue else "a further one would wait"
        words = (
            f"All {len(held)} threads of {pool.name} are stuck, {top} of them in one line; the event loop is idle.",
            f"It runs at most {pool.limit or len(held)} calls at a time, so {queued} in its queue.",
        )
        if held[0].motion.samples == 1 and pool.said:
            return Verdict("inconclusive", 0.5, words, ("One dump shows one moment: short calls look alike.",)), held[0]
        if held[0].motion.samples == 1:
            doubt = "One dump cannot show that the calls do not return: a busy server's short ones look alike."
            return Verdict("threadpool-exhausted", 0.7 if checkout(held[0]) else 0.5, words, (doubt,)), held[0]
        woken = sum(woke(scene, one) for one in held)
        if woken * 4 > len(held):
            words = (
                f"All {len(held)} threads of {pool.name} are in use, and {woken} of them woke while they were watched.",
            )
            return Verdict("healthy", 0.6, words, ("A pool that is full all the time is at its limit.",)), None
        return Verdict("threadpool-exhausted", 0.93, words) if queue else unqueued(scene, held, words), held[0]
    return None


def unqueued(scene: Scene, held: list[Wait], words: tuple[str, ...]) -> Verdict:
    """Of a full pool whose queue was not read: whether anybody suffers, only a further request can show."""
    doubt = "Whether a call waits in its queue is not known."
    clients = scene.evidence.clients
    if clients is not None and clients.open <= len(held):
        told = f"{clients.open} clients are connected, so each of them may have a thread of its own."
        return Verdict("inconclusive", 0.5, (words[0], told), (doubt,))
    return Verdict("threadpool-exhausted", 0.75, words, (doubt,))


def at_work(pool: Pool, held: list[Wait]) -> tuple[Verdict, Wait | None]:
    words = (f"All {len(held)} threads of {pool.name} are at work, and no call waits for one of them.",)
    return Verdict(
        "healthy", 0.6, words, (f"The next call will wait, until {held[0].view.thread.name} or another returns.",)
    ), None


def queue_of(scene: Scene, pool: Pool) -> int | None:
    """How many calls wait for a thread of the pool, None where that is not known."""
    if is_anyio_worker(pool.members[0].thread):
        return in_line(scene)
    known = [
        scene.evidence.queued[view.thread.os_id] for view in pool.members if view.thread.os_id in scene.evidence.queued
    ]
    return max(known, default=None)


def in_line(scene: Scene) -> int | None:
    """How many tasks wait for a token of one of AnyIO's limiters, None where not all tasks are known."""
    if not scene.evidence.later or scene.evidence.unread:
        return None
    return sum(task.awaits is not None and task.awaits.kind == "CapacityLimiter" for task in scene.evidence.later)


def to_the_brim(scene: Scene) -> Pool | None:
    """A pool with every thread in a call that stands still, though nothing is known to wait for it."""
    stuck = {identity(one.view) for one in stuck_workers(scene) if one.motion.samples > 1 and not woke(scene, one)}
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


def backed_up(scene: Scene) -> tuple[Verdict, Wait] | None:
    """More coroutines wait for calls in pools than pools have threads at work: the others are in a queue.

    A pool starts a thread for each call until it is full, so a queue means that it is, whatever its size.
    """
    busy = [view for view in scene.threads("worker") if not view.idle and not is_anyio_worker(view.thread)]
    waiting = handed_over(scene)
    if (
        not busy
        or len(waiting) <= len(busy)
        or any(calls(frame, "concurrent/futures/process.py") for view in scene.last for frame in view.thread.frames)
    ):
        return None
    stuck = {identity(one.view): one for one in stuck_workers(scene) if one.motion.samples > 1 and not woke(scene, one)}
    for pool in pools(scene):
        held = [stuck[identity(view)] for view in pool.members if identity(view) in stuck]
        if pool.members[0] not in busy or len(held) < len(pool.members):
            continue
        size = f", its source gives it {pool.limit}" if pool.limit else ""
        words = (
            f"All {len(held)} threads of {pool.name} are stuck{size}; the event loop is idle.",
            f"{len(waiting)} coroutines wait for calls in pools all the time, and {len(busy)} such calls are under way: "
            "the others are queued.",
        )
        others = ("Other pools are at work too: the queue may be theirs.",) if len(busy) > len(held) else ()
        return Verdict("threadpool-exhausted", 0.7 if others else 0.92, words, others), held[0]
    return None


def handed_over(scene: Scene) -> tuple[Task, ...]:
    """The tasks that wait for a call in a pool of threads, for the same one in both readings."""
    before = {(task.id, task.awaits.id) for task in scene.evidence.tasks if task.awaits}
    return tuple(
        task
        for task in scene.evidence.later
        if task.awaits
        and task.awaits.kind == "Future"
        and (task.id, task.awaits.id) in before
        and hands_over(scene, task)
    )


def hands_over(scene: Scene, task: Task) -> bool:
    own = next((index for index, frame in enumerate(task.frames) if is_application(frame)), len(task.frames))
    return any(calls(frame, *LIBRARY_HANDS_OVER) for frame in task.frames[:own]) or says(scene, task, HANDS_OVER)


def says(scene: Scene, task: Task, words: tuple[str, ...]) -> bool:
    """Whether the application's innermost line has one of the words, or the line that made what it names."""
    frame = next((one for one in task.frames if is_application(one)), None)
    if frame is None:
        return False
    statement = statement_at(scene.evidence.sources, frame)
    made = (maker for name in re.findall(r"\w+", statement) for maker in makers(scene.evidence.sources, frame, name))
    return any(word in text for text in (statement, *made) for word in words)


def woke(scene: Scene, one: Wait) -> bool:
    """Whether a waiting thread woke by itself, with nobody attached."""
    watched, _, _ = movement(scene.evidence.watch, one.view.thread.os_id)
    return bool(one.motion.woke or watched)


def unsure(scene: Scene) -> tuple[Verdict, Wait] | None:
    """A pool of unknown size with every thread stuck in one place, and more clients than threads."""
    stuck, clients = stuck_workers(scene), scene.evidence.clients
    if clients is None or not 2 <= len(stuck) < clients.open:
        return None
    if len({place(one) for one in stuck}) > 1 or len(stuck) < len(scene.threads("worker")):
        return None
    if all(scene.evidence.queued.get(one.view.thread.os_id or -1, 1) == 0 for one in stuck):
        return None  # nobody waits for them
    words = (f"All {len(stuck)} pool threads are stuck in one place, and {clients.open} clients are connected.",)
    doubts = ("A pool that is full and a pool with slow work look alike until one knows its size.",)
    return Verdict("inconclusive", 0.5, words, doubts), stuck[0]
