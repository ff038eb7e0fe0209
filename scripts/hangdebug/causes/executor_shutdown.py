"""The event loop joins a thread pool.

`with ThreadPoolExecutor()` calls `shutdown(wait=True)` when the block is left, also when the block is left
because the client went away: the server then throws a cancellation into the coroutine. That join runs on the
loop's thread. Until the slowest worker returns, no other request is served and health checks time out. A stop
method that joins a pool (`await service.aclose()`) does the same one call further away.

Repair: keep one bounded pool for the whole application, or leave the block with
`shutdown(wait=False, cancel_futures=True)`; give the work a stop event and timeouts, since a call that runs
cannot be taken back.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

SHUTDOWN = ("concurrent/futures/thread.py:shutdown", "concurrent/futures/process.py:shutdown")


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or not wait.inside(*SHUTDOWN):
        return None
    return Match(frozenset({"frames"}), ("It is inside of Executor.shutdown(), which joins the pool's threads.",))


CAUSE = Cause(
    id="executor-shutdown",
    title="the event loop waits for a thread pool to shut down",
    picture="thread",
    match=match,
    snippet="stream_executor.py",
    fix="nonblocking_executor",
    confused_with={
        "thread-join": "there a thread is joined directly; here the join is made by Executor.shutdown().",
        "interpreter-exit": "there the interpreter joins the pool on its way out, and no event loop runs any more.",
    },
    owed="perhaps",
)
