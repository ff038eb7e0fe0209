"""A server's start and end, as frames and tasks show them: is it loaded, started, stopped, or on its way out?"""

from __future__ import annotations

from typing import Literal

from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, is_application, package
from hangdebug.evidence.kernel import ends_by_itself
from hangdebug.evidence.libraries import SERVERS
from hangdebug.evidence.model import Frame, Task
from hangdebug.scene.graph import sleeps_in_place
from hangdebug.scene.pools import in_default_executor
from hangdebug.scene.requests import between_jobs, waits_for_work
from hangdebug.scene.scene import Scene
from hangdebug.scene.tasks import as_wait, runs_application, task_waits
from hangdebug.scene.waits import Wait, wait

Stage = Literal["starting", "stopping"]

# What servers import the application in, before they serve it.
LOADS = (
    "uvicorn/importer.py",
    "uvicorn/config.py:load",
    "uvicorn/config.py:load_app",
    "gunicorn/util.py:import_app",
    "hypercorn/utils.py:load_application",
    "granian/_internal.py",
)
LIFESPANS = ("uvicorn/lifespan/on.py:main", "granian/asgi.py:_runner")
# aiohttp and Quart have no such function: their start and end are calls of these.
STARTS = (
    "aiohttp/web_app.py:startup",
    "aiohttp/web_runner.py:setup",
    "quart/app.py:startup",
    "sanic/app.py:_startup",
)
STOPS = (
    "quart/app.py:shutdown",
    "aiohttp/web_app.py:shutdown",
    "aiohttp/web_app.py:cleanup",
    "aiohttp/web_runner.py:shutdown",
    "aiohttp/web_runner.py:cleanup",
)
LISTENERS, SERVING = "sanic/app.py:_server_event", "sanic/server/runners.py:_run_server_forever"  # start and end alike
# The tasks that run a lifespan.
RUNS = (
    "uvicorn/lifespan/on.py:main",
    "hypercorn/asyncio/lifespan.py:handle_lifespan",
    "starlette/routing.py:lifespan",
    LISTENERS,
    *STARTS,
    *STOPS,
)
# How a server waits for its application's lifespan, whatever the application is made with.
WAITS_FOR_START = ("uvicorn/lifespan/on.py:startup", "hypercorn/asyncio/lifespan.py:wait_for_startup")
WAITS_FOR_END = ("uvicorn/lifespan/on.py:shutdown", "hypercorn/asyncio/lifespan.py:wait_for_shutdown")


def stage_of(frames: tuple[Frame, ...]) -> Stage | None:
    """Whether the stack loads the application or runs the start or the end of its lifespan; None where neither."""
    if any(calls(frame, *LOADS) for frame in frames):
        return "starting"
    index = max((i for i, frame in enumerate(frames) if runs_lifespan(frame)), default=0)
    for frame in reversed(frames[:index]):
        if frame.name in ("__aexit__", "shutdown", "_shutdown"):
            return "stopping"
        if frame.name in ("__aenter__", "startup", "_startup"):
            return "starting"
    if any(calls(frame, LISTENERS) for frame in frames):
        return "stopping" if any(calls(frame, SERVING) for frame in frames) else "starting"
    if any(calls(frame, *STOPS) for frame in frames):
        return "stopping"
    return "starting" if any(calls(frame, *STARTS) for frame in frames) else None


def runs_lifespan(frame: Frame) -> bool:
    """Whether an async server or framework runs the application's start and end there."""
    names = ("lifespan", "handle_lifespan", "_lifespan")
    return package(frame) in SERVERS and (frame.name in names or calls(frame, *LIFESPANS))


def unmoved_lifespan(scene: Scene) -> Task | None:
    """The task of the lifespan that stands in the same line of the application in both readings of the tasks."""
    lines = {task.id: awaiting_line(task) for task in scene.evidence.tasks}
    return next(
        (
            task
            for task in scene.evidence.later
            if awaiting_line(task) is not None and lines.get(task.id) == awaiting_line(task)
        ),
        None,
    )


def awaiting_line(task: Task) -> tuple[str, int | None] | None:
    """Where the application's code awaits inside of a lifespan, None for any other task."""
    if not any(calls(frame, *RUNS) for frame in task.frames):
        return None
    return next(((frame.file, frame.line) for frame in task.frames if is_application(frame)), None)


def stage_of_task(scene: Scene, task: Task) -> Stage | None:
    """Which part of the lifespan the task is in, by what the server's own tasks wait for."""
    others = [frame for one in scene.evidence.later for frame in one.frames]
    if any(calls(frame, *WAITS_FOR_END) for frame in others):
        return "stopping"
    if any(calls(frame, *WAITS_FOR_START) for frame in others):
        return "starting"
    return stage_of((*task.frames, *scene.loop[-1].thread.frames))


# -- a process on its way out --------------------------------------------------------------------------

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
