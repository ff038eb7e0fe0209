"""The event loop waits for a concurrent future.

`pool.submit(work).result()`, `concurrent.futures.wait()` and iterating `pool.map()` or `as_completed()` block
the calling thread until a worker is done. In a coroutine the calling thread is the loop's.

Repair: `await loop.run_in_executor(pool, work)`, or `await asyncio.wrap_future(future)`. The `result()` of an
asyncio task that is done does not block and is no cause.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.scene.graph import nobody_at_work
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

CALLS = tuple(
    f"concurrent/futures/_base.py:{name}"
    for name in ("result", "exception", "wait", "as_completed", "result_iterator", "_result_or_cancel")
)
PROCESSES = tuple(
    f"multiprocessing/pool.py:{name}" for name in ("get", "wait", "map", "starmap", "apply", "next", "__next__")
)
JOBLIB = ("joblib/parallel.py:_retrieve", "joblib/parallel.py:retrieve")
PORTAL = "anyio/from_thread.py"
CHUNKS = "concurrent/futures/process.py:_chain_from_iterable_of_lists"


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    through_portal = wait is not None and wait.starts_with(PORTAL) and wait.inside(*CALLS)
    if wait is not None and wait.inside(*JOBLIB):
        return Match(
            frozenset({"frames"}),
            (f"It called {wait.outermost}, which asks again and again whether its workers are done.",),
        )
    if wait is None or not (through_portal or wait.starts_with(*CALLS, *PROCESSES, CHUNKS)):
        return None
    words = f"It called {wait.outermost}, which blocks until a worker is done."
    if nobody_at_work(scene) and not wait.starts_with(*PROCESSES):
        return Match(
            frozenset(),
            (words, "No other thread is at work: the evidence does not show who should complete the future."),
        )
    return Match(frozenset({"frames"}), (words,))


CAUSE = Cause(
    id="future-result",
    title="the event loop waits for the result of a concurrent future",
    picture="thread",
    fix="await_future",
    match=match,
    snippet="stream_executor.py",
    confused_with={
        "executor-shutdown": "there the pool is joined, whatever became of its results.",
        "lock": "a future waits on a condition too; the frame above it in the stack tells them apart.",
    },
    owed="perhaps",
    frames_wait=True,
)
