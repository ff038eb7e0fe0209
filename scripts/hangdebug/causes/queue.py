"""A `queue.Queue` is read while it is empty, or written while it is full.

`get()`, `put()` and `join()` of `queue` and of `multiprocessing` block the thread until another one does its
part. On the event loop's thread nobody else is served meanwhile; if the other side has ended, it is for ever.
`SimpleQueue.get()` is written in C: there the stack ends in the line that calls it.

Repair: an `asyncio.Queue` where both sides are coroutines; otherwise `await asyncio.to_thread(q.get)`, with a
timeout, or `get_nowait()`.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

MODULES = (
    "queue.py",
    "asyncio/queues.py",
    "multiprocessing/queues.py",
    "tornado/queues.py",
    "janus.py",
    "anyio/streams/memory.py",
)


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or seen.state == "loop-busy":
        return None
    if wait.starts_with(*MODULES):
        return Match(frozenset({"frames"}), (f"It called {wait.outermost}, which blocks until the other side acts.",))
    if wait.leaf and not wait.running and wait.line_says("get", "put") and wait.in_syscall("futex"):
        words = f"Its line calls a queue without a frame of its own: {wait.text}"
        return Match(frozenset({"source", "kernel"}), (words, f"The kernel has it in {wait.kernel}."))
    if wait.leaf and not wait.running and wait.line_calls("get") and wait.syscall is None and makes_queue(scene, wait):
        return Match(frozenset({"source"}), (f"Its line reads a queue: {wait.text}",))
    return None


def makes_queue(scene: Scene, wait: Wait) -> bool:
    """Whether the file's known lines make a queue: `get` alone is also what a dictionary has."""
    lines = scene.evidence.sources.get(wait.frame.file, {}) if wait.frame else {}
    return any("Queue(" in line for line in lines.values())


CAUSE = Cause(
    id="queue",
    title="the event loop's thread waits on a queue",
    picture="queue",
    fix="to_thread",
    match=match,
    confused_with={"lock": "a queue waits on a condition too; the frame of queue.py above it tells them apart."},
    frames_wait=True,
)
