"""One handler computes on the event loop's thread.

Nothing is waited for: the thread is on a CPU, and the other requests wait until it comes back. A password hash
or an image codec that drops the GIL looks idle to a profiler; the kernel's CPU time shows that it works.

Repair: `await asyncio.to_thread(work)` where the work drops the GIL, a process pool where it does not, or a `def`
route.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen, computes
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if not computes(wait, seen):
        return None
    if wait is not None and wait.motion.cpu is not None:
        share = f"It used {wait.motion.cpu:.0%} of a CPU over {wait.motion.span:.1f} s."
        return Match(frozenset({"kernel"}), (share,))
    return Match(frozenset({"frames"}))


CAUSE = Cause(
    id="cpu-bound",
    title="a handler computes on the event loop's thread",
    picture="computes",
    match=match,
    snippet="process_pool.py",
    confused_with={"other": "a loop that goes from one short handler to the next is under load, not stuck in one."},
)
