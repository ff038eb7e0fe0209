"""`time.sleep()` on the event loop's thread.

It suspends the thread, not the coroutine. `time.sleep()` has no frame of its own: the stack ends in the line
that calls it, and only that line or the kernel (`clock_nanosleep` up to a moment; before Python 3.11 a `select` on
nothing) tells it from any other C call. A C library that sleeps, as SQLite does before a lock, sleeps for a while.

Repair: `await asyncio.sleep()`.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence.frames import calls
from hangdebug.evidence.kernel import sleeps_in_c
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

ASYNC_NAPS = ("asyncio/tasks.py:sleep", "anyio/_core/_eventloop.py:sleep", "anyio/_backends/_asyncio.py:sleep")
NAPS = ("sleep", "_sleep", "nap", "backoff")  # library functions that call time.sleep


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None:
        return None
    if wait.coroutine:
        napping = wait.view.inner[:1] and calls(wait.view.inner[0], *ASYNC_NAPS)
        return Match(frozenset({"tasks"}), (f"It awaits {wait.outermost}.",)) if napping else None
    kinds, words = set(), []
    said = wait.leaf and any("sleep" in name.lower() for name in wait.called)
    if said and (
        wait.kernel is None or wait.kernel.syscall in (None, "running", "restart_syscall") or sleeps(wait) or in_c(wait)
    ):
        kinds.add("source")
        words.append(f"Its line calls sleep: {wait.text}")
    # Drivers sleep too, such as sqlite3 for a lock: where the line is known, it has to agree.
    agrees = said or "sleep" in (wait.text or "sleep").partition("#")[0]
    if sleeps(wait) and (wait.leaf and agrees or wait.view.inner and wait.view.inner[0].name in NAPS):
        kinds.add("kernel")
        words.append(f"The kernel has the thread in {wait.kernel}, which is how Python sleeps.")
    return Match(frozenset(kinds), tuple(words)) if kinds else None


def sleeps(wait: Wait) -> bool:
    """clock_nanosleep as Python calls it, or a select() that watches no descriptor."""
    if wait.in_syscall("clock_nanosleep"):
        return not in_c(wait)
    return wait.in_syscall("select", "pselect6") and wait.kernel.args[:4] == (0, 0, 0, 0)


def in_c(wait: Wait) -> bool:
    return wait.kernel is not None and sleeps_in_c(wait.kernel.syscall, wait.kernel.args)


CAUSE = Cause(
    id="sleep",
    title="a sleep suspends the event loop's thread",
    picture="sleep",
    fix="sleep",
    match=match,
    confused_with={"lock": "`lock.acquire()` gives the same stack; the kernel says futex instead."},
)
