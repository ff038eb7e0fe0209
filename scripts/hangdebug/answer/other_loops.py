"""Loops that are not the server's own: another thread runs one beside it.

Such a thread may block its loop on purpose: a poller that sleeps, a consumer that waits for the next message. That hangs
nobody who does not wait for it.
"""

from __future__ import annotations

from dataclasses import replace

from hangdebug.answer.certainty import NOT_THE_SERVERS
from hangdebug.answer.model import Verdict
from hangdebug.answer.states.inconclusive import on_purpose
from hangdebug.evidence.frames import package
from hangdebug.evidence.kernel import ends_by_itself
from hangdebug.evidence.libraries import SERVERS
from hangdebug.scene.graph import HANDS_OVER, RESULT, hands_over
from hangdebug.scene.loop import outermost
from hangdebug.scene.pools import says, woke
from hangdebug.scene.scene import Scene, polls_its_own
from hangdebug.scene.tasks import waiting
from hangdebug.scene.waits import Wait, elsewhere, name_of, wait


def beside(own: Scene, other: Scene, found: Verdict) -> Verdict | None:
    """What the held loop of another thread means where the server's own is fine.

    None where it goes on and nobody waits for it.
    """
    if not serves(own) or needed(own):
        doubts = (*found.doubts, NOT_THE_SERVERS.reason)
        return replace(found, doubts=doubts, limits=(*found.limits, NOT_THE_SERVERS))
    return None if found.wait is not None and goes_on(other, found.wait) else on_purpose(found)


def innocence(held: Wait) -> str:
    """Why another thread's loop is not to blame, for the report."""
    return f"{name_of(held.view)}, whose own event loop stands in {held.frame}: it goes on, and nobody is seen to wait for it."


def serves(own: Scene) -> bool:
    """Whether it is the server's loop for certain: a server runs it, or it polls the socket that accepts connections."""
    one = own.loop[-1]
    by_server = any(package(frame) in SERVERS for frame in one.thread.frames)
    return by_server or polls_its_own(one.kernel, own.evidence.process)


def needed(own: Scene) -> bool:
    """Whether a thread or a coroutine waits for something that was handed to another thread's loop."""
    waits = [wait(own, view) for view in own.last if view.role != "event-loop" and not view.idle]
    still = [one for one in waits if one.starts_with(*RESULT) and one.motion.same == one.motion.samples]
    if any(hands_over(own, one) for one in still):
        return True
    return any(says(own, task, (HANDS_OVER,)) for task in waiting(own).stuck.values())


def goes_on(scene: Scene, held: Wait) -> bool:
    """Whether it computes, moves, or is in a wait that ends by itself."""
    seen = elsewhere(scene, held.view, outermost(scene) or held.frame) if held.frame else None
    timed = held.kernel is not None and ends_by_itself(held.kernel)
    moved = woke(scene, held) or bool(seen and seen[0]) or held.motion.same < held.motion.samples
    return bool(held.running) or timed or moved
