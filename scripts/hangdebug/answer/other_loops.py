"""Loops that are not the server's own: another thread's, beside it, and none at all.

A thread may run an event loop of its own and block it on purpose: a poller that sleeps, a consumer that waits for the
next message. That hangs nobody who does not wait for it. A program that asyncio.run() runs may have been told to end.
"""

from __future__ import annotations

import re
from typing import Optional, Tuple

from hangdebug.answer.model import Verdict
from hangdebug.answer.states.held import outermost, times
from hangdebug.evidence.frames import calls, is_application, package
from hangdebug.evidence.kernel import ends_by_itself
from hangdebug.evidence.libraries import PARKED, SERVERS
from hangdebug.evidence.model import Task
from hangdebug.scene.graph import HANDS_OVER, RESULT, hands_over
from hangdebug.scene.pools import says, woke
from hangdebug.scene.scene import Scene, polls_its_own
from hangdebug.scene.tasks import as_wait, own_code, waiting
from hangdebug.scene.waits import Wait, elsewhere, name_of, wait

Answer = Optional[Tuple[Verdict, Optional[Wait]]]

SECOND_LOOP = 0.7  # how sure an answer about a loop may be that is not the server's
HELD = ("loop-blocked", "loop-busy")
RUNNER, NUMBERED = "asyncio/runners.py:run", re.compile(r"^Task-(\d{1,9})$")
TAKES_BACK = ("asyncio/taskgroups.py", "asyncio/timeouts.py", "anyio/_backends/_asyncio.py:__aexit__")


def beside(own: Scene, other: Scene, found: Verdict, held: Wait) -> Verdict | None:
    """What the held loop of another thread means where the server's is fine; None where it goes on and nobody waits for it."""
    doubt = "It is not the server's own loop: that one is fine."
    if not serves(own) or needed(own):
        return Verdict(found.state, min(found.confidence, SECOND_LOOP), found.evidence, (*found.doubts, doubt))
    if goes_on(other, held):
        return None
    doubts = (doubt, "Nobody is seen to wait for it: it may block on purpose, as a consumer does between two messages.")
    return Verdict("inconclusive", 0.5, found.evidence, (*found.doubts, *doubts))


def of_another(held: Wait) -> str:
    """Why it is not to blame, for the report."""
    return f"{name_of(held.view)}, whose own event loop stands in {held.frame}: it goes on, and nobody is seen to wait for it."


def serves(own: Scene) -> bool:
    """Whether it is the server's loop for certain: a server runs it, or it polls the socket that accepts connections."""
    one = own.loop[-1]
    return any(package(frame) in SERVERS for frame in one.thread.frames) or polls_its_own(
        one.kernel, own.evidence.process
    )


def needed(own: Scene) -> bool:
    """Whether a thread or a coroutine waits for something that was handed to another thread's loop."""
    waits = [wait(own, view) for view in own.last if view.role != "event-loop" and not view.idle]
    if any(
        one.starts_with(*RESULT) and hands_over(one, own) and one.motion.same == one.motion.samples for one in waits
    ):
        return True
    return any(says(own, task, (HANDS_OVER,)) for task in waiting(own).stuck.values())


def goes_on(scene: Scene, held: Wait) -> bool:
    """Whether it computes, moves, or is in a wait that ends by itself."""
    seen = elsewhere(scene, held.view, outermost(scene) or held.frame) if held.frame else None
    timed = held.kernel is not None and ends_by_itself(held.kernel)
    return (
        bool(held.running)
        or timed
        or woke(scene, held)
        or bool(seen and seen[0])
        or held.motion.same < held.motion.samples
    )


def to_look_at(scene: Scene) -> Wait | None:
    """Where a person would look first: at the main thread, or at one that is inside of the application's code.

    A main thread that joins others says nothing: they do. Threads that wait for an event, or for an item of a queue, are
    passed over while there are others: most do so on purpose.
    """
    seen = [wait(scene, view) for view in scene.last if view.frame is not None and not view.idle]

    def telling(one: Wait) -> tuple[bool, bool, bool]:
        main, parked = one.view.role == "main", one.starts_with(*PARKED)
        active = bool(one.view.thread.owns_gil or one.view.thread.active)
        return main and not one.starts_with("threading.py:join") or not main and not parked, main, active

    return max(seen, key=telling, default=None)


def tasks_alone(scene: Scene) -> Answer:
    """A list of tasks, and no thread: where the only one of the application's own waits."""
    own = [task for task in scene.evidence.tasks if any(is_application(frame) for frame in task.frames)]
    words = (f"Tasks only, {len(scene.evidence.tasks)} of them, and no thread's stack.",)
    return Verdict("inconclusive", 0.3, words, (), True), as_wait(scene, own[0]) if len(own) == 1 else None


def asked_to_end(scene: Scene) -> Answer:
    """A program whose main coroutine was cancelled, as asyncio.run() does at Ctrl-C, and waits on for the same thing."""
    runs = any(calls(frame, RUNNER) for view in scene.loop for frame in view.thread.frames)
    task = main_task(scene) if runs and len(scene.threads("event-loop")) == 1 else None
    if task is None or not task.cancels or task.id not in waiting(scene).stuck or not own_code(task):
        return None
    if any(calls(frame, *TAKES_BACK) for frame in task.frames):
        return None  # a group or a timeout has cancelled it, and is not yet through
    words = (
        f"{task.name} ({task.coroutine}), which asyncio.run() runs, was cancelled {times(task.cancels)}, as Ctrl-C does, and "
        f"waits for {task.awaits or task.waits_on} all the time: it has swallowed that.",
    )
    return Verdict(
        "exit-hang", 0.75, words, ("A library that cancels and does not take it back leaves the same trace.",)
    ), as_wait(scene, task)


def main_task(scene: Scene) -> Task | None:
    """The first task of the loop: asyncio numbers them, and all others are made by it or by what it made."""
    numbered = [
        (int(found[1]), task) for task in scene.evidence.later for found in [NUMBERED.match(task.name)] if found
    ]
    return min(numbered, key=lambda one: one[0], default=(0, None))[1]
