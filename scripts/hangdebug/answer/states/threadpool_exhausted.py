"""The loop is fine, and no thread, or no connection, is left for synchronous work: it queues behind stuck calls."""

from __future__ import annotations

from hangdebug.answer.certainty import EVEN, MOMENT, ONE_SIDED, OPEN, SHOWN
from hangdebug.answer.model import Rule, StateEntry, Verdict
from hangdebug.answer.words import counted, line_of, place_of
from hangdebug.causes.connection_pool import checkout_frame
from hangdebug.causes.model import Cause
from hangdebug.evidence.light import dataclass
from hangdebug.scene.open_requests import nobody_answered
from hangdebug.scene.pools import (
    FullPool,
    calls_left_behind,
    full_pool,
    pool_with_waiting_calls,
    stuck_members,
    woke_by_itself,
)
from hangdebug.scene.rings import explains
from hangdebug.scene.scene import Scene, identity, stacks_alone
from hangdebug.scene.tasks import as_wait, runs_application, task_waits
from hangdebug.scene.waits import Wait, file_and_line, name_of, stuck_workers


def full(scene: Scene) -> Verdict | str:
    """Every thread of a pool is stuck, and it is at its known size or has calls in its queue."""
    seen = full_pool(scene) if scene.loop else None
    if seen is None:
        return "No pool has all of its threads in calls that stand still." if scene.loop else "No event loop runs."
    if seen.queue == 0:
        return f"All threads of {seen.pool.name} are at work, and no call waits for one of them."
    if seen.one_moment and seen.pool.by_source:
        return f"All threads of {seen.pool.name} are at work at one moment."
    if seen.one_moment:
        doubt = "One dump cannot show that the calls do not return: a busy server's short ones look alike."
        level = MOMENT if checkout_frame(seen.members[0]) else EVEN
        return Verdict("threadpool-exhausted", level, seen.words(), (doubt,), seen.members[0])
    if seen.goes_on and seen.queue and nobody_answered(scene):
        awake = "Its threads wake, and come back to where they were; no client was sent anything for as long as that."
        doubt = "Slow work that wakes in between looks alike: look again in a minute."
        return Verdict("threadpool-exhausted", OPEN, (*seen.words(), awake), (doubt,), seen.members[0])
    if seen.goes_on:
        return f"{seen.woke} of the threads of {seen.pool.name} woke while they were watched."
    if seen.queue:
        first, words = at_fault(scene, seen)
        return Verdict("threadpool-exhausted", SHOWN, words, wait=first)
    if seen.serves_each_client(scene):
        return "Each client that is connected may have a thread."
    doubt = "Whether a call waits in its queue is not known."
    first, words = at_fault(scene, seen)
    return Verdict("threadpool-exhausted", ONE_SIDED, words, (doubt,), first)


def at_fault(scene: Scene, seen: FullPool) -> tuple[Wait, tuple[str, ...]]:
    """The thread that most of the pool's wait for, and what it stands in; else one in the commonest place."""
    holder = explains(scene, seen.members)
    if holder is None or holder[0].frame is None or holder[0].view.idle or holder[1] * 2 < len(seen.members):
        return seen.members[0], seen.words()
    one, count = holder
    who = f"{count} of them wait for {name_of(one.view)}, which stands in {one.frame}."
    return one, (*seen.words(), who)


def calls_queued(scene: Scene) -> Verdict | str:
    """More coroutines wait for calls in pools than calls are under way: the others are queued."""
    found = pool_with_waiting_calls(scene) if scene.loop and full_pool(scene) is None else None
    if found is not None and calls_left_behind(scene):
        return "The calls that are queued wait for a pool that has no thread in this process."
    if found is None:
        return "No call is queued: each one that a coroutine waits for is under way."
    pool, waiting, busy = found
    members = stuck_members(scene, pool)
    size = f", its source gives it {pool.limit}" if pool.limit else ""
    words = (
        f"All {len(members)} threads of {pool.name} are stuck{size}; the event loop is idle.",
        f"{waiting} coroutines wait for calls in pools all the time; {busy} of these are under way, the others queue.",
    )
    others = ("Other pools are at work too: the queue may be theirs.",) if busy > len(members) else ()
    return Verdict("threadpool-exhausted", MOMENT if others else SHOWN, words, others, members[0])


def no_connection_left(scene: Scene) -> Verdict | str:
    """Threads are left, but no connection of a pool is: every request that needs one waits."""
    seen = in_threads(scene)
    if seen is None or full_pool(scene) is not None:
        return "No pool thread waits for a connection all the time."
    if seen.others:
        return "Other pool threads are at work, and may hold the connections."
    if len(scene.samples) == 1 and not scene.loop[-1].idle:
        return "The event loop's thread is at work, and may hold the connections."
    return Verdict("threadpool-exhausted", MOMENT, (seen.words,), (SLOW,), seen.waits[0])


def summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    where = f"{place_of(verdict.wait)}{line_of(verdict.wait)}"
    if cause.id == "connection-pool":
        return f"Every connection of a pool is in use, and requests wait for one{where}."
    seen = full_pool(scene)
    if seen is not None and verdict.wait is not None and file_and_line(verdict.wait) != file_and_line(seen.members[0]):
        return f"The threads of the pool wait for the one that stands{where}; synchronous requests queue behind them."
    return f"Every thread of the pool is stuck{where}; synchronous requests queue behind them."


# -- who waits for a connection of a pool, in threads or in coroutines ---------------------------------

SLOW = "Slow queries may hold all connections, and give them back in the end."


@dataclass(frozen=True)
class ConnectionWait:
    """Who waits for a connection, the sentence that says so, and how many others are at work and may hold one."""

    waits: tuple[Wait, ...]
    words: str
    others: int


def in_threads(scene: Scene) -> ConnectionWait | None:
    """Pool threads that wait in every sample for a connection, and never wake; None where there is none.

    Of a lone dump it takes two of them.
    """
    stuck = [one for one in stuck_workers(scene) if checkout_frame(one)]
    seen_once = bool(stuck) and stuck[0].motion.samples == 1
    if not scene.loop or not stuck or any(woke_by_itself(scene, one) for one in stuck):
        return None
    if seen_once and not (stuck[1:] and stacks_alone(scene.evidence)):
        return None
    known = {identity(one.view) for one in stuck}
    others = sum(not view.idle and identity(view) not in known for view in scene.threads("worker"))
    who = counted(len(stuck), "pool thread", "waits")
    words = f"{who} in every sample for a connection of a pool, and none of them woke; the event loop is idle."
    return ConnectionWait(tuple(stuck), words, others)


def in_coroutines(scene: Scene) -> ConnectionWait | None:
    """Requests whose coroutines wait for a connection in both readings of the tasks; None where there is none."""
    if not scene.evidence.later or not any(view.idle for view in scene.loop):
        return None
    seen = task_waits(scene)
    own = [one for one in seen.tasks.values() if runs_application(one)]
    waits = [as_wait(scene, one) for one in own if one.id in seen.stuck and one.id in seen.served]
    stuck = [one for one in waits if checkout_frame(one)]
    if not stuck:
        return None
    words = (
        f"{counted(len(stuck), 'request', 'waits')} all the time for a connection of a pool; the event loop is idle."
    )
    return ConnectionWait(tuple(stuck), words, len(own) - len(stuck))


STATE = StateEntry(
    "threadpool-exhausted",
    rules=(
        Rule("pool-full", "is a pool of threads or connections full", full),
        Rule("calls-queued", "is a pool of threads or connections full", calls_queued),
        Rule("no-connection-left", "is a pool of threads or connections full", no_connection_left),
    ),
    summary=summary,
    repair="pattern",
    shows_caller=True,
)
