"""`time.sleep()` on the event loop's thread.

It suspends the thread, not the coroutine. `time.sleep()` has no frame of its own: the stack ends in the line
that calls it, and only that line or the kernel (`clock_nanosleep` until a moment; before Python 3.11 a `select`
on nothing) tells it from any other C call. A C library that sleeps, as SQLite does, names a duration instead.

Repair: `await asyncio.sleep()`.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence.frames import calls
from hangdebug.evidence.kernel import sleeps_in_c
from hangdebug.evidence.vocabulary import EvidenceKind
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
    kinds: set[EvidenceKind] = set()
    words = []
    by_line = wait.leaf and any("sleep" in name.lower() for name in wait.called)
    if by_line and (wait.syscall in (None, "running", "restart_syscall") or sleeps(wait) or sleeps_in_library(wait)):
        kinds.add("source")
        words.append(f"Its line calls sleep: {wait.text}")
    # Drivers sleep too, such as sqlite3 for a lock: where the line is known, it has to agree.
    agrees = by_line or "sleep" in (wait.text or "sleep").partition("#")[0]
    if sleeps(wait) and ((wait.leaf and agrees) or (wait.view.inner and wait.view.inner[0].name in NAPS)):
        kinds.add("kernel")
        words.append(f"The kernel has the thread in {wait.kernel}, which is how Python sleeps.")
    if wait.syscall is None and wait.view.inner and wait.view.inner[0].name in NAPS and not wait.running:
        kinds.add("frames")
        words.append(f"It called {wait.outermost}, which sleeps.")
    return Match(frozenset(kinds), tuple(words)) if kinds else None


def sleeps(wait: Wait) -> bool:
    """clock_nanosleep as Python calls it, or a select() that watches no descriptor."""
    if wait.in_syscall("clock_nanosleep"):
        return not sleeps_in_library(wait)
    return selects_nothing(wait)


def selects_nothing(wait: Wait) -> bool:
    """A select() without descriptors only sleeps."""
    return wait.in_syscall("select", "pselect6") and wait.args[:4] == (0, 0, 0, 0)


def sleeps_in_library(wait: Wait) -> bool:
    return sleeps_in_c(wait.syscall, wait.args)


CAUSE = Cause(
    id="sleep",
    title="a sleep suspends the event loop's thread",
    picture="sleep",
    fix="sleep",
    match=match,
    confused_with={"lock": "`lock.acquire()` gives the same stack; the kernel says futex instead."},
)
