"""The loop's default executor is full, or is joined at the end.

`asyncio.to_thread()`, `run_in_executor(None, ...)` and the loop's own name resolution share one pool of
min(32, CPUs + 4) threads: on a small container, five or six. When calls that never return hold all of them, the next
one waits in the queue, and so does every connection that needs a name resolved. At the end `asyncio.run` joins
the same pool: one such call keeps a process alive that was told to stop.

Repair: timeouts in the calls; an executor of their own for slow calls (`loop.run_in_executor(pool, ...)`).
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence.frames import calls, is_application
from hangdebug.scene.pools import in_default_executor
from hangdebug.scene.scene import Scene, View
from hangdebug.scene.waits import Wait

SHUTDOWN = "concurrent/futures/thread.py:shutdown"
JOINS = "asyncio/base_events.py:_do_shutdown"  # shows it too where a dump has no names of threads


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if seen.state == "exit-hang":
        joining = joining_thread(scene)
        words = f"{joining.thread.name} joins the loop's default executor." if joining else ""
        return Match(frozenset({"frames"}), (words,)) if joining else None
    if seen.state == "threadpool-exhausted" and wait is not None and in_default_executor(wait.view):
        return Match(frozenset({"frames"}))
    return None


def joining_thread(scene: Scene) -> View | None:
    """The thread that the loop started to join its default executor, while a call is still at work there."""
    busy = any(in_default_executor(view) and not view.idle for view in scene.last)
    joining = [
        view
        for view in scene.threads("other")
        if any(calls(frame, SHUTDOWN) for frame in view.thread.frames)
        and not any(map(is_application, view.thread.frames))
    ]
    return next((view for view in joining if busy or any(calls(frame, JOINS) for frame in view.thread.frames)), None)


CAUSE = Cause(
    id="default-executor",
    title="the loop's default executor is full, or is joined at the end",
    picture="thread",
    match=match,
    snippet="lifespan_executor.py",
    confused_with={
        "threadpool-limit": "there AnyIO's 40 threads, which run `def` handlers, are stuck.",
        "interpreter-exit": "there no event loop runs any more.",
    },
)
