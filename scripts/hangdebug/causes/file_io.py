"""A file, a named pipe, a file lock or a device keeps the event loop's thread.

Opening a FIFO waits for its other end, `flock` and `lockf` for whoever holds the lock, `fsync` and a dead
network mount for the disk. All are C calls: the stack ends in the line that makes them, and the kernel names
the call and the path.

Repair: `await asyncio.to_thread(work)`; take file locks without waiting (`LOCK_NB`) and give up after a while;
open a FIFO with `O_NONBLOCK`.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence.frames import calls
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

PACKAGES = ("filelock", "portalocker", "fasteners", "zc", "serial", "fcntl")
LOCKS = ("flock", "lockf")
OPENS = ("open", "fsync", "fdatasync", "read_text", "read_bytes", "write_text", "write_bytes", "mkfifo")
PATHLIB = tuple(
    f"{file}:{name}" for file in ("pathlib.py", "pathlib/_local.py", "pathlib/__init__.py") for name in OPENS
)
ALWAYS = ("flock", "fcntl", "openat", "open", "fsync", "fdatasync")
READS = ("read", "write", "pread64", "pwrite64", "readv", "writev", "sendfile", "ioctl")


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or seen.state == "loop-busy" or wait.running:
        return None
    if wait.inside_package(*PACKAGES):
        return Match(frozenset({"frames"}), (f"It called {wait.outermost}.",))
    if wait.syscall is None and not wait.leaf and calls(wait.view.inner[0], *PATHLIB):
        return Match(frozenset({"frames"}), (f"It called {wait.outermost}.",))
    by_line = wait.line_says(*LOCKS, *OPENS)
    if wait.in_syscall(*ALWAYS) or (wait.in_syscall(*READS) and on_file(wait)):
        words = f"The kernel has it in {wait.kernel}."
        # A pipe without a name has no file: whose it is, the line alone may tell.
        known = wait.text or "pipe" not in wait.descriptors.values()
        return Match(
            frozenset({"kernel", "source"} if by_line and wait.leaf else {"kernel"} if known else ()), (words,)
        )
    if wait.leaf and wait.line_says(*LOCKS) and wait.syscall is None:
        return Match(frozenset({"source"}), (f"Its line takes a file lock: {wait.text}",))
    if wait.leaf and by_line and wait.syscall is None:
        return Match(frozenset({"source"}), (f"Its line opens or reads a file: {wait.text}",))
    return None


def on_file(wait: Wait) -> bool:
    """A path or a pipe, and not the process's own standard streams."""
    found = wait.descriptors
    return (
        bool(found)
        and not {0, 1, 2} & set(found)
        and all(target.startswith("/") or target == "pipe" for target in found.values())
    )


CAUSE = Cause(
    id="file-io",
    title="the event loop's thread waits for a file",
    picture="file",
    fix="to_thread",
    match=match,
    confused_with={
        "socket": "the same stack; the kernel says which descriptor it is: a peer, or a path.",
        "lock": "a lock of threading is futex in the kernel's words, a file's is flock or fcntl.",
    },
    owed="likely",
    frames_wait=True,
)
