"""A lifespan whose start or end awaits for ever: the loop is idle, no thread works, and only the tasks show it."""

from __future__ import annotations

from hangdebug.frames import calls, is_application
from hangdebug.held import LISTENERS, STARTS as BEGINS, STOPS, lifespan_state
from hangdebug.model import Task, Verdict
from hangdebug.pending import as_wait, waiting
from hangdebug.pools import hands_over
from hangdebug.scene import Scene
from hangdebug.waits import Wait, stuck_workers

RUNS = ("uvicorn/lifespan/on.py:main", "hypercorn/asyncio/lifespan.py:handle_lifespan", "starlette/routing.py:lifespan", LISTENERS,
        *BEGINS, *STOPS)
# How a server waits for its application to be through, whatever the application is made with.
STARTS = ("uvicorn/lifespan/on.py:startup", "hypercorn/asyncio/lifespan.py:wait_for_startup")
ENDS = ("uvicorn/lifespan/on.py:shutdown", "hypercorn/asyncio/lifespan.py:wait_for_shutdown")
WORDS = {"startup-hang": "The server has not begun to serve: it waits for the first part of its lifespan.",
         "exit-hang": "The server was told to stop, and waits for the last part of its lifespan."}


def lifespan_waits(scene: Scene) -> tuple[Verdict, Wait | None] | None:
    """None where no lifespan stands in its start or end in both readings of the tasks."""
    task = standing(scene)
    if task is None or not scene.loop or not any(view.idle for view in scene.loop):
        return None
    state = phase(scene, task)
    if state is None:
        return None
    words = (WORDS[state], f"{task.name} ({task.coroutine}) runs the lifespan, and waits for {task.awaits or task.waits_on}.")
    stuck = waiting(scene).stuck
    if task.id in stuck and not task.timed:
        return Verdict(state, 0.93 if state == "exit-hang" else 0.88, words), working(scene, task) or as_wait(scene, task)
    doubt = "It waits for a while at a time: it may be slow, or try again and again."
    return Verdict(state, 0.75, words, (doubt,)), as_wait(scene, task)


def working(scene: Scene, task: Task) -> Wait | None:
    """The pool's thread that the lifespan waits for, where its stack shows what it does."""
    found = [one for one in stuck_workers(scene) if one.frame is not None] if hands_over(scene, task) else []
    return found[0] if len(found) == 1 else None


def standing(scene: Scene) -> Task | None:
    """The task of the lifespan, in the same line of the application's in both readings."""
    lines = {task.id: line(task) for task in scene.evidence.tasks}
    return next((task for task in scene.evidence.later if line(task) is not None and lines.get(task.id) == line(task)), None)


def line(task: Task) -> tuple[str, int | None] | None:
    """Where the application's code awaits inside of a lifespan, None for any other task."""
    if not any(calls(frame, *RUNS) for frame in task.frames):
        return None
    return next(((frame.file, frame.line) for frame in task.frames if is_application(frame)), None)


def phase(scene: Scene, task: Task) -> str | None:
    others = [frame for one in scene.evidence.later for frame in one.frames]
    if any(calls(frame, *ENDS) for frame in others):
        return "exit-hang"
    if any(calls(frame, *STARTS) for frame in others):
        return "startup-hang"
    return lifespan_state((*task.frames, *scene.loop[-1].thread.frames))
