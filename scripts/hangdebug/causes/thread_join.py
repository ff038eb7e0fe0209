"""A thread or a process is joined.

`Thread.join()` and `Process.join()` return when the other one has ended. On the loop's thread that holds up
every request; and if the other thread needs the loop in order to end, it holds for ever.

Repair: ask the thread to stop (an Event), and join it with `await asyncio.to_thread(thread.join, timeout)`.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

JOINS = ("threading.py:join", "multiprocessing/process.py:join", "multiprocessing/pool.py:join")


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or not wait.starts_with(*JOINS):
        return None
    return Match(frozenset({"frames"}), (f"It called {wait.outermost}, which returns when the other one ends.",))


CAUSE = Cause(
    id="thread-join",
    title="the event loop waits for a thread or a process to end",
    picture="thread",
    fix="to_thread",
    match=match,
    snippet="periodic_cleanup.py",
    confused_with={"executor-shutdown": "there the join is made by Executor.shutdown()."},
    frames_wait=True,
)
