"""Requests wait for a connection of a pool, in threads or in coroutines, and none is given back."""

from __future__ import annotations

from hangdebug.answer.model import Verdict
from hangdebug.causes.connection_pool import checkout
from hangdebug.scene.pools import woke
from hangdebug.scene.scene import Scene, identity
from hangdebug.scene.tasks import as_wait, own_code, waiting
from hangdebug.scene.waits import Wait, stuck_workers

SLOW = "Slow queries may hold all connections, and give them back in the end."


def lent_out(scene: Scene) -> tuple[Verdict, Wait] | None:
    """Threads are left, but no connection of a pool is: every request that needs one waits."""
    stuck = [one for one in stuck_workers(scene) if checkout(one) and one.motion.samples > 1]
    if not stuck or any(woke(scene, one) for one in stuck):
        return None
    words = (
        f"{len(stuck)} pool thread{'s' if len(stuck) > 1 else ''} wait in every sample for a connection of a pool, and "
        "none of them woke; the event loop is idle.",
    )
    if any(
        not view.idle and identity(view) not in {identity(one.view) for one in stuck}
        for view in scene.threads("worker")
    ):
        return Verdict(
            "inconclusive", 0.5, words, (f"Other pool threads are at work, and may hold them. {SLOW}",)
        ), stuck[0]
    return Verdict("threadpool-exhausted", 0.7, words, (SLOW,)), stuck[0]


def awaited_in_vain(scene: Scene) -> tuple[Verdict, Wait] | None:
    """The same in coroutines. Where every request waits so, none is left that could give a connection back."""
    if not scene.evidence.later or not any(view.idle for view in scene.loop):
        return None
    seen = waiting(scene)
    own = [one for one in seen.tasks.values() if own_code(one)]
    waits = [as_wait(scene, one) for one in own if one.id in seen.stuck and one.id in seen.served]
    stuck = [one for one in waits if checkout(one)]
    if not stuck:
        return None
    several = len(stuck) > 1
    words = [
        f"{len(stuck)} request{'s wait' if several else ' waits'} all the time for a connection of a pool; the event loop "
        "is idle."
    ]
    if len(stuck) == len(own):
        words.append(
            "No other coroutine of the application's is under way that could give one back: they were taken and kept."
        )
        return Verdict("tasks-waiting", 0.88, tuple(words)), stuck[0]
    return Verdict(
        "inconclusive", 0.5, tuple(words), (f"{len(own) - len(stuck)} other coroutines may hold them. {SLOW}",)
    ), stuck[0]
