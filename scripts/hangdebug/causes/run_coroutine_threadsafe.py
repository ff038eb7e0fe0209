"""The event loop waits for a coroutine that only it could run.

`asyncio.run_coroutine_threadsafe(coroutine, loop).result()` is for other threads. On the loop's own thread the
coroutine is queued behind the call that waits for it: neither ever ends. The same ring closes in two steps when
the loop waits for a worker, and that worker hands it a coroutine (`anyio.from_thread.run`, asgiref's
`async_to_sync`).

Repair: `await` the coroutine. A worker may hand coroutines to the loop as long as the loop awaits that worker
(`await asyncio.to_thread(...)`) and does not block on it.
"""

from __future__ import annotations

from hangdebug.answer.model import Verdict
from hangdebug.causes.model import Cause, Match
from hangdebug.scene.rings import ring
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait


def match(verdict: Verdict, wait: Wait | None, scene: Scene) -> Match | None:
    if wait is None or verdict.state != "deadlock":
        return None
    if verdict.waits_for:  # the ring is known: it is this one if a worker in it waits for the loop
        return (
            Match(frozenset({"frames", "source"})) if any(edge.kind == "loop" for edge in verdict.waits_for) else None
        )
    return ring(wait, scene)


CAUSE = Cause(
    id="run-coroutine-threadsafe",
    title="the event loop waits for a coroutine that only it could run",
    picture="thread",
    fix="await_future",
    match=match,
    confused_with={"future-result": "there a pool's thread is at work on the result, and will return it some day."},
)
