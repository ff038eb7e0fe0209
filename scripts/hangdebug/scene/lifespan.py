"""A server's start and end, as frames and tasks show them: is the application being loaded, started, or stopped?"""

from __future__ import annotations

from typing import Literal

from hangdebug.evidence.frames import calls, is_application, package
from hangdebug.evidence.libraries import SERVERS
from hangdebug.evidence.model import Frame, Task
from hangdebug.scene.scene import Scene

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
