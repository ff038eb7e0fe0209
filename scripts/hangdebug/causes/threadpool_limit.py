"""Every thread that may run synchronous work is stuck.

Starlette runs `def` endpoints, file responses and sync dependencies in threads, at most 40 at a time (AnyIO's
default limiter). When all are stuck, the next `def` request waits in a queue, while `async def` endpoints
still answer. So a health check that is `async` stays green. A pool of the application's own runs full
in the same way. Work that waits for other work in its own pool fills it for ever: each thread waits for a call that is
queued behind it, which is a deadlock.

Repair: timeouts in the stuck calls; a limiter of their own for slow calls; more tokens only with a reason.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if any(edge.kind == "pool" for edge in seen.ring):
        return Match(frozenset({"frames", "source"}))
    if seen.state != "threadpool-exhausted":
        return None
    return Match(frozenset({"frames"}))


CAUSE = Cause(
    id="threadpool-limit",
    title="all threads of the pool are stuck, so synchronous work queues",
    picture="thread",
    match=match,
    snippet="thread_limiter.py",
    confused_with={"none": "a few slow `def` requests are no exhaustion while threads are left."},
)
