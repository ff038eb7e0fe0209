"""The event loop waits for a coroutine that only it could run.

`asyncio.run_coroutine_threadsafe(coroutine, loop).result()` is for other threads. On the loop's own thread the
coroutine is queued behind the call that waits for it: neither ever ends. The same ring closes in two steps when
the loop waits for a worker, and that worker hands it a coroutine (`anyio.from_thread.run`, asgiref's
`async_to_sync`).

Repair: `await` the coroutine. A worker may hand coroutines to the loop as long as the loop awaits that worker
(`await asyncio.to_thread(...)`) and does not block on it.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.scene.graph import nobody_at_work
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    asked = [edge for edge in seen.ring if edge.kind == "loop"]
    if not asked:
        return None
    if len(seen.ring) > 1 or not asked[0].concluded:
        return Match(frozenset({"frames", "source"}))
    # Where somebody is at work, all of those wait for results themselves.
    return Match(frozenset() if nobody_at_work(scene) else frozenset({"frames"}))


CAUSE = Cause(
    id="run-coroutine-threadsafe",
    title="the event loop waits for a coroutine that only it could run",
    picture="thread",
    fix="await_future",
    match=match,
    confused_with={"future-result": "there a pool's thread is at work on the result, and will return it some day."},
)
