"""Loops that are not the server's own: another thread runs one beside it.

Such a thread may block its loop on purpose: a poller that sleeps, a consumer that waits for the next message. That
hangs nobody who does not wait for it.
"""

from __future__ import annotations

from dataclasses import replace

from hangdebug.answer.certainty import NOT_THE_SERVERS
from hangdebug.answer.model import Verdict
from hangdebug.answer.states.inconclusive import on_purpose
from hangdebug.evidence.frames import package
from hangdebug.evidence.kernel import ends_by_itself
from hangdebug.evidence.libraries import SERVERS
from hangdebug.scene.graph import HANDS_TO_LOOP, RESULT, hands_to_loop
from hangdebug.scene.loop import handler_frame
from hangdebug.scene.pools import line_names, woke_by_itself
from hangdebug.scene.scene import Scene, polls_its_own
from hangdebug.scene.tasks import task_waits
from hangdebug.scene.waits import Wait, name_of, samples_outside, wait


def verdict_beside(own: Scene, other: Scene, found: Verdict) -> Verdict | None:
    """What the stuck loop of another thread means where the server's own is fine.

    None where it goes on and nobody waits for it.
    """
    if not is_servers_loop(own) or is_waited_for(own):
        doubts = (*found.doubts, NOT_THE_SERVERS.reason)
        return replace(found, doubts=doubts, limits=(*found.limits, NOT_THE_SERVERS))
    return None if found.wait is not None and goes_on(other, found.wait) else on_purpose(found)


def innocence_words(held: Wait) -> str:
    """Why another thread's loop is not to blame, for the report."""
    who = name_of(held.view)
    return f"{who}, whose own event loop stands in {held.frame}: it goes on, and nobody is seen to wait for it."


def is_servers_loop(own: Scene) -> bool:
    """Whether it is surely the server's loop: a server runs it, or it polls the socket that accepts connections."""
    one = own.loop[-1]
    by_server = any(package(frame) in SERVERS for frame in one.thread.frames)
    return by_server or polls_its_own(one.kernel, own.evidence.process)


def is_waited_for(own: Scene) -> bool:
    """Whether a thread or a coroutine waits for something that was handed to another thread's loop."""
    waits = [wait(own, view) for view in own.last if view.role != "event-loop" and not view.idle]
    still = [one for one in waits if one.starts_with(*RESULT) and one.motion.in_place]
    if any(hands_to_loop(own, one) for one in still):
        return True
    return any(line_names(own, task, (HANDS_TO_LOOP,)) for task in task_waits(own).stuck.values())


def goes_on(scene: Scene, held: Wait) -> bool:
    """Whether it computes, moves, or is in a wait that ends by itself."""
    seen = samples_outside(scene, held.view, handler_frame(scene) or held.frame) if held.frame else None
    timed = held.kernel is not None and ends_by_itself(held.kernel)
    moved = woke_by_itself(scene, held) or bool(seen and seen[0]) or not held.motion.in_place
    return bool(held.running) or timed or moved
