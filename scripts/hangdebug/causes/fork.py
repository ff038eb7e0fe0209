"""A forked child waits for a lock that it inherited, and that nobody can release.

`fork` copies the memory and one thread only. A lock that another thread held at that moment is locked in the child for
ever, for its holder does not exist there: loggers, import locks, connection pools and locks of your own alike. It
happens with `multiprocessing`'s start method "fork" (Linux's default before Python 3.14), with `os.fork()`, and
with servers that load the application before they fork their workers.

Repair: the start method "spawn" or "forkserver"; fork before you start threads; or make new locks in the child with
`os.register_at_fork(after_in_child=...)`.
"""

from __future__ import annotations

from hangdebug.causes import lock
from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, is_application, since_fork
from hangdebug.evidence.kernel import forever
from hangdebug.evidence.model import Frame
from hangdebug.evidence.source import earlier
from hangdebug.scene.pools import calls_left_behind
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

FORK = re.compile(r"\b(?:os\.)?fork(?:pty)?\(\)")
SPAWNED = "multiprocessing/spawn.py"  # a process of its own: it inherits no lock
SHARED = "multiprocessing/synchronize.py"


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if seen.state == "tasks-waiting" and wait is not None and wait.coroutine and calls_left_behind(scene):
        return Match(frozenset({"tasks", "kernel"}), ("The threads of the pool were not copied when it was forked.",))
    found = lock_left_by_fork(scene, wait) if seen.state == "deadlock" and wait is not None else None
    if found is None:
        return None
    return Match(frozenset({"frames", *found.kinds}), ("Its stack goes on into the process that forked it.",))


def lock_left_by_fork(scene: Scene, wait: Wait) -> Match | None:
    """What shows that the only thread of a forked process waits for a lock of threads, without a timeout."""
    frames = wait.view.thread.frames
    if any(calls(frame, SPAWNED) for frame in frames):
        return None
    forked = len(since_fork(frames)) < len(frames) or forks(scene, frames)
    if len(scene.last) != 1 or wait.inside(SHARED) or not forked:
        return None
    if wait.syscall:
        alone = all(len(reading.waits) == 1 for reading in scene.evidence.readings)
        if not alone or not wait.in_syscall("futex") or not forever(wait.args) or wait.motion.woke:
            return None
        words = "The kernel has its only thread in a futex that no other process can wake."
        return Match(frozenset({"kernel"}), (words,))
    return lock.match(scene, wait, Seen("deadlock"))


def forks(scene: Scene, frames: tuple[Frame, ...]) -> bool:
    """Whether a running function has forked: `os.fork()` is a C call, which leaves no frame in the child."""
    return any(
        FORK.search(line)
        for frame in frames
        if is_application(frame)
        for line in earlier(scene.evidence.sources, frame)
    )


CAUSE = Cause(
    id="fork",
    title="a forked child waits for a lock whose holder was not copied",
    picture="lock",
    match=match,
    confused_with={"lock": "there the holder is a thread of the same process, and may release it yet."},
    owed="surely",
)
