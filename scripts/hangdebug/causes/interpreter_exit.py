"""The interpreter joins threads on its way out.

When the main thread has ended, Python joins every thread of a `ThreadPoolExecutor` (`_python_exit`) and every
other thread that is not a daemon (`threading._shutdown`). A worker that waits on the network keeps the process
alive; no event loop runs any more. uvicorn shows this on SIGINT; on SIGTERM it raises the signal again after
the lifespan and is gone at once.

Repair: stop events and timeouts in the work, and a bounded drain in the lifespan before the end.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence.frames import calls
from hangdebug.scene.scene import Scene, View
from hangdebug.scene.waits import Wait

JOINS = (
    "concurrent/futures/thread.py:_python_exit",
    "concurrent/futures/process.py:_python_exit",
    "threading.py:_shutdown",
    "multiprocessing/util.py:_exit_function",
)


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    joining = scene.shows(*JOINS) or library_hook(scene) if seen.state == "exit-hang" and not scene.loop else None
    if joining is None:
        return None
    words = f"Its main thread joins the remaining threads in {joining.thread.frames[0]}."
    return Match(frozenset({"frames"}), (words,))


def library_hook(scene: Scene) -> View | None:
    """The main thread, in a join that no module has called: an atexit hook of a library's."""
    return next(
        (
            view
            for view in scene.threads("main")
            if view.frame is None
            and view.thread.frames[-1].name != "<module>"
            and any(calls(frame, "threading.py:join") for frame in view.thread.frames)
        ),
        None,
    )


CAUSE = Cause(
    id="interpreter-exit",
    title="the interpreter waits for threads before it exits",
    picture="thread",
    match=match,
    snippet="bounded_drain.py",
    confused_with={"executor-shutdown": "there the event loop still runs and joins a pool by itself."},
)
