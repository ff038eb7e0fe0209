"""Requests wait for a connection of a pool, in threads or in coroutines: what three states make of it."""

from __future__ import annotations

from dataclasses import dataclass

from hangdebug.answer.words import counted
from hangdebug.causes.connection_pool import checkout_frame
from hangdebug.scene.pools import woke_by_itself
from hangdebug.scene.scene import Scene, identity
from hangdebug.scene.tasks import as_wait, runs_application, task_waits
from hangdebug.scene.waits import Wait, stuck_workers

SLOW = "Slow queries may hold all connections, and give them back in the end."


@dataclass(frozen=True)
class ConnectionWait:
    """Who waits for a connection, the sentence that says so, and how many others are at work and may hold one."""

    waits: tuple[Wait, ...]
    words: str
    others: int


def in_threads(scene: Scene) -> ConnectionWait | None:
    """Pool threads that wait in every sample for a connection, and never wake; None where there is none."""
    stuck = [one for one in stuck_workers(scene) if checkout_frame(one) and one.motion.samples > 1]
    if not scene.loop or not stuck or any(woke_by_itself(scene, one) for one in stuck):
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
