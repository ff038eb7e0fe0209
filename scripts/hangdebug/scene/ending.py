"""A process on its way out: whom the interpreter waits for, and whether the rest works on by itself."""

from __future__ import annotations

import re

from hangdebug.evidence.frames import package
from hangdebug.evidence.kernel import ends_by_itself
from hangdebug.scene.graph import sleeps_in_place
from hangdebug.scene.pools import in_default_executor
from hangdebug.scene.requests import between_jobs, waits_for_work
from hangdebug.scene.scene import Scene
from hangdebug.scene.tasks import as_wait, runs_application, task_waits
from hangdebug.scene.waits import Wait, wait

A_SERVER = re.compile(r"\b(?:uvicorn|hypercorn|granian|gunicorn|fastapi|starlette|FastAPI|Starlette)\b")
LOOP_ALONE = ("uvicorn", "hypercorn", "daphne")  # servers that serve in an event loop and nowhere else


def was_a_server(scene: Scene) -> bool:
    """Whether the process was a server, by its command and sources, or where these are not known.

    Then it ends because it was told to; a script's main thread may just have done its part.
    """
    lines = (line for known in scene.evidence.sources.values() for line in known.values())
    unknown = not scene.evidence.readings
    return bool(scene.evidence.process.server) or unknown or any(A_SERVER.search(line) for line in lines)


def still_serves(scene: Scene) -> bool:
    """Whether a server's loop still runs, be it in a thread while the main thread waits for it."""
    running = any(package(frame) in ("uvicorn", "hypercorn") for view in scene.loop for frame in view.thread.frames)
    return running and scene.evidence.process.listens is not False


def works_on(scene: Scene) -> bool:
    """Whether each thread that is left runs a loop, accepts, waits for work or for a while, or moves: none is stuck."""
    loops = [view for view in scene.last if view.role == "event-loop"]
    rest = [wait(scene, view) for view in scene.last if view.role in ("worker", "other") and not view.idle]
    if not (rest or loops) or not all(view.idle for view in loops):
        return False
    timed = [one for one in rest if one.kernel is not None and ends_by_itself(one.kernel)]
    return all(
        one in timed or between_jobs(one) or waits_for_work(one.view) or not sleeps_in_place(one) for one in rest
    )


def waited_for(scene: Scene) -> Wait | None:
    """The thread that an exit waits for: the default executor's, then a pool's, one with an application frame first."""
    busy = [view for view in scene.last if view.role in ("worker", "other") and not view.idle and view.section]
    best = max(busy, key=lambda v: (in_default_executor(v), v.role == "worker", v.frame is not None), default=None)
    return wait(scene, best) if best is not None and best.frame is not None else None


def task_left(scene: Scene) -> Wait | None:
    """The only task of the application's own that has not ended, where its list is known."""
    tasks = [task for task in task_waits(scene).tasks.values() if runs_application(task)]
    return as_wait(scene, tasks[0]) if len(tasks) == 1 else None


def unfinished_request(scene: Scene) -> Wait | None:
    """The coroutine that a stopping server waits for: it serves a request, and waits in the application's code."""
    seen = task_waits(scene)
    tasks = [task for task in seen.tasks.values() if task.id in seen.served and runs_application(task)]
    waits = [as_wait(scene, task) for task in tasks]
    return next((one for one in waits if one.frame is not None), None)
