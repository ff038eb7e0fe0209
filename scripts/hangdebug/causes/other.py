"""Something else, or more than this evidence can show.

The stack says where; the line, the kernel and the summary say as much as is known of what. Drivers written in C
look alike in a stack: open the line.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if seen.state == "stopped":
        return Match(frozenset({"kernel"}))
    if wait is not None and wait.kernel is not None and wait.kernel.syscall not in (None, "running", "futex"):
        return Match(frozenset({"kernel"}), (f"The kernel has the thread in {wait.kernel}.",))
    return Match(frozenset())


CAUSE = Cause(id="other", title="something that no rule names", match=match)
