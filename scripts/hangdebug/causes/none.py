"""Nothing is stuck.

The event loop waits for its next event, or goes from one piece of work to the next; pool threads without work
wait in their queue. If users see errors all the same, look at the other workers behind the port, at what the
server calls, and at the proxy before it.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    return Match(frozenset({"frames"})) if seen.state == "healthy" else None


CAUSE = Cause(id="none", title="nothing is stuck", match=match)
