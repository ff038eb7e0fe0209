"""What a person would look at first where a dump shows no event loop: one thread of many, or one task."""

from __future__ import annotations

from typing import Optional, Tuple

from hangdebug.frames import is_application
from hangdebug.model import Verdict
from hangdebug.pending import as_wait
from hangdebug.scene import PARKED, Scene
from hangdebug.waits import Wait, wait

Answer = Optional[Tuple[Verdict, Optional[Wait]]]


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
