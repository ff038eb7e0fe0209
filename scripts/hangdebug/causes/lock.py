"""The event loop waits for a lock, an event, a condition, a semaphore or a barrier of `threading`.

Whoever should release it may wait for the loop, may be slow, or may have ended without releasing. `with lock:`
and `lock.acquire()` are C calls without a frame: the stack ends in the line that makes them. `Event.wait()`,
`Condition.wait()` and `Semaphore.acquire()` show frames of threading.py.

Two threads that each hold a lock and wait for the other's never go on. Neither does a thread that enters a Lock twice,
or one whose lock's holder has ended, was killed, or is a coroutine suspended inside of `with lock`. Then the state is
`deadlock`, and the report draws who waits for whom. Take locks in one order; use `with`, and never around an `await`.

The locks of asyncio stop single tasks, and only the list of tasks shows that: a lock that is entered twice, one
that was taken and never released, an event that nobody sets. The loop runs on, and those requests never end.

Repair: `asyncio.Lock` where only coroutines take it; otherwise take it in a thread
(`await asyncio.to_thread(...)`), hold it for less, and never across an `await`. Release it on every path (`with`,
`async with`, `finally`), and take several always in one order.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence import light as re
from hangdebug.evidence.vocabulary import EvidenceKind
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

CALLS = (
    *tuple(f"threading.py:{name}" for name in ("wait", "wait_for", "acquire", "__enter__")),
    "multiprocessing/synchronize.py:acquire",
    "multiprocessing/synchronize.py:__enter__",
    "multiprocessing/synchronize.py:wait",
)
TASKS = ("asyncio/locks.py", "tornado/locks.py", "anyio/_core/_synchronization.py", "anyio/_backends/_asyncio.py")
NAME = re.compile(r"^[A-Za-z_][\w.]*$")
# What else has its `with` written in C: it sends or writes something at the end.
CONNECTION = re.compile(r"(?i)conn|db|sess|curs|trans|tx|file|^fh?$|sock|stream|pool")
LOCKISH = ("lock", "mutex", "sem", "cond", "guard")


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None:
        return None
    if wait.coroutine and wait.starts_with(*TASKS):
        return Match(frozenset({"tasks"}), (f"It awaits {wait.outermost}.",))
    if wait.starts_with(*CALLS):
        return Match(frozenset({"frames"}), (f"It called {wait.outermost}.",))
    if not wait.leaf or wait.running:
        return None
    takes = wait.line_calls("acquire") or any(word in (wait.entered or "").lower() for word in LOCKISH)
    futex = wait.in_syscall("futex", "semop", "semtimedop")
    if takes and (futex or wait.syscall is None):
        kinds: set[EvidenceKind] = {"source", "kernel"} if futex else {"source"}
        words = (f"Its line takes a lock: {wait.text}",) + ((f"The kernel has it in {wait.kernel}.",) if futex else ())
        return Match(frozenset(kinds), words)
    if wait.syscall is None and (crossed(scene, wait) or enters_what_is_no_connection(wait)):
        return unseen(scene, wait)
    if futex and wait.entered:
        words = (f"It enters `{wait.entered}`, and the kernel says {wait.kernel}.",)
        return Match(frozenset({"source", "kernel"}), words)
    if seen.ring and seen.ring[0].kind == "lock" and seen.ring[0].concluded and wait.syscall is None:
        return Match(frozenset({"frames"}), (f"It stands in a C call, with {seen.ring[0].through}.",))
    if futex and seen.ring and seen.ring[0].kind == "lock":
        return Match(frozenset({"source", "kernel"}), (f"Its line takes {seen.ring[0].through}.",))
    return None


def enters_what_is_no_connection(wait: Wait) -> bool:
    name = wait.entered or ""
    return bool(NAME.match(name)) and not CONNECTION.search(name)


def unseen(scene: Scene, wait: Wait) -> Match:
    """A lock that neither its name nor the kernel shows."""
    if crossed(scene, wait):
        words = (
            "Another thread stands in this line with the same two objects the other way round: each has one of them."
        )
        return Match(frozenset({"frames"}), (words,))
    says = f"It enters `{wait.entered}`, and no frame shows what that does: so a lock does."
    return Match(frozenset({"source"}), (says,))


def crossed(scene: Scene, wait: Wait) -> bool:
    """Whether another thread is in the same call with two of its objects exchanged, as a dump with locals shows."""
    own = wait.frame.locals if wait.frame is not None else {}
    pairs = [(one, two) for one in own for two in own if own[one] != own[two]]
    others = (view.frame for view in scene.last if view is not wait.view) if pairs else ()
    alike = [frame.locals for frame in others if frame is not None and frame == wait.frame]
    return any((own[one], own[two]) == (other.get(two), other.get(one)) for other in alike for one, two in pairs)


CAUSE = Cause(
    id="lock",
    title="the event loop waits for a lock",
    picture="lock",
    snippet="locks.py",
    fix="asyncio_lock",
    match=match,
    confused_with={
        "sleep": "the same stack; the kernel says clock_nanosleep instead of futex.",
        "future-result": "a future waits on a condition too, inside of concurrent/futures.",
    },
    owed="likely",
)
