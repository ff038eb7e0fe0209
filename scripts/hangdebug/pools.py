"""Pools of threads: who belongs to which, how many each may have, and whether one is full of stuck calls."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from hangdebug.causes.connection_pool import checkout
from hangdebug.model import Verdict
from hangdebug.scene import Scene, View, identity, is_anyio_worker
from hangdebug.waits import Wait, movement, place, stuck_workers

ANYIO_TOKENS = 40  # anyio.to_thread.current_default_thread_limiter().total_tokens, which Starlette uses


@dataclass(frozen=True)
class Pool:
    """A pool's threads in the last sample. `limit` is how many it may have, None where that is not known."""

    name: str
    members: tuple[View, ...]
    limit: int | None


def pools(scene: Scene) -> tuple[Pool, ...]:
    groups: dict[str, list[View]] = {}
    for view in scene.threads("worker"):
        key = "AnyIO" if is_anyio_worker(view.thread) else view.thread.name.rpartition("_")[0]
        groups.setdefault(key, []).append(view)
    found = (named(key, tuple(members), scene.evidence.process.cpus) for key, members in groups.items())
    tokens = limiter(scene)
    return tuple(replace(one, limit=tokens) if tokens and is_anyio_worker(one.members[0].thread) else one for one in found)


def limiter(scene: Scene) -> int | None:
    """How many threads AnyIO's limiter gives out, where tasks queue for one in every reading of them; None elsewhere."""
    lists = [one for one in (scene.evidence.tasks, scene.evidence.later) if one]
    queues = [{(task.id, task.awaits.counts.get("tokens")) for task in one
               if task.awaits and task.awaits.kind == "CapacityLimiter"} for one in lists]
    both = set.intersection(*queues) if queues else set()
    return min((tokens for _, tokens in both if tokens), default=None)


def named(key: str, members: tuple[View, ...], cpus: int | None) -> Pool:
    if key == "AnyIO":
        return Pool("AnyIO's thread limiter", members, ANYIO_TOKENS)
    if key in ("asyncio", "uvloop"):  # ThreadPoolExecutor's default size
        return Pool("the default executor", members, min(32, cpus + 4) if cpus else None)
    return Pool(f"the pool {key}", members, None)


def full(scene: Scene) -> tuple[Verdict, Wait] | None:
    """A pool of known size with every thread stuck."""
    stuck = {identity(one.view): one for one in stuck_workers(scene)}
    for pool in pools(scene):
        held = [stuck[identity(view)] for view in pool.members if identity(view) in stuck]
        if pool.limit is None or len(held) < pool.limit:
            continue
        places = Counter(map(place, held))
        held.sort(key=lambda one: -places[place(one)])
        top = places[place(held[0])]
        queue = queue_of(scene, pool)
        if queue == 0:
            return at_work(pool, held)
        calls = f"{queue} call{'s wait' if queue > 1 else ' waits'}" if queue else "the next one waits"
        words = (f"All {len(held)} threads of {pool.name} are stuck, {top} of them in one line; the event loop is idle.",
                 f"It runs at most {pool.limit} calls at a time, so {calls} in its queue.")
        if held[0].motion.samples == 1:
            doubt = "One dump cannot show that the calls do not return: a busy server's short ones look alike."
            return Verdict("threadpool-exhausted", 0.7 if checkout(held[0]) else 0.5, words, (doubt,)), held[0]
        woken = sum(woke(scene, one) for one in held)
        if woken * 4 > len(held):
            words = (f"All {len(held)} threads of {pool.name} are in use, and {woken} of them woke while they were watched.",)
            return Verdict("healthy", 0.6, words, ("A pool that is full all the time is at its limit.",)), None
        return Verdict("threadpool-exhausted", 0.93, words), held[0]
    return None


def at_work(pool: Pool, held: list[Wait]) -> tuple[Verdict, Wait | None]:
    words = (f"All {len(held)} threads of {pool.name} are at work, and no call waits for one of them.",)
    return Verdict("healthy", 0.6, words, (f"The next call will wait, until {held[0].view.thread.name} or another returns.",)), None


def queue_of(scene: Scene, pool: Pool) -> int | None:
    """How many calls wait for a thread of the pool, None where that is not known."""
    known = [scene.evidence.queued[view.thread.os_id] for view in pool.members if view.thread.os_id in scene.evidence.queued]
    return max(known, default=None)


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
