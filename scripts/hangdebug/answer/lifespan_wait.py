"""How sure it is that a lifespan does not go on: the weighing that a start and an end share."""

from __future__ import annotations

from hangdebug.answer.certainty import EXCLUDED, ONE_SIDED, SHOWN
from hangdebug.answer.model import Verdict
from hangdebug.evidence.model import Task
from hangdebug.evidence.vocabulary import State
from hangdebug.scene.lifespan import Stage, stage_of_task, unmoved_lifespan
from hangdebug.scene.pools import hands_to_pool
from hangdebug.scene.scene import Scene
from hangdebug.scene.tasks import as_wait, task_waits
from hangdebug.scene.waits import Wait, stuck_workers


def verdict_of(scene: Scene, state: State, stage: Stage, words: str) -> Verdict | str:
    """The state's verdict where the lifespan's task stands in that stage in both readings of the tasks."""
    task = unmoved_lifespan(scene)
    if task is None:
        return "No lifespan stands in one line in both readings of the tasks."
    if not scene.loop or not any(view.idle for view in scene.loop):
        return "The event loop is not idle."
    found = stage_of_task(scene, task)
    if found != stage:
        return f"The lifespan is {found or 'in no known stage'}."
    runs = f"{task.name} ({task.coroutine}) runs the lifespan, and waits for {task.awaits or task.waits_on}."
    if task.id in task_waits(scene).stuck and not task.timed:
        level = SHOWN if stage == "stopping" else EXCLUDED  # that it was told to stop was seen as well
        return Verdict(state, level, (words, runs), wait=pool_thread(scene, task) or as_wait(scene, task))
    doubt = "It waits for a while at a time: it may be slow, or try again and again."
    return Verdict(state, ONE_SIDED, (words, runs), (doubt,), as_wait(scene, task))


def pool_thread(scene: Scene, task: Task) -> Wait | None:
    """The pool's thread that the lifespan waits for, where its stack shows what it does."""
    found = [one for one in stuck_workers(scene) if one.frame is not None] if hands_to_pool(scene, task) else []
    return found[0] if len(found) == 1 else None
