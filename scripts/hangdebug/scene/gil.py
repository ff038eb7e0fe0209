"""The event loop's thread waits for the GIL, which another thread does not release.

A C call keeps the GIL unless its author releases it, and the interpreter changes threads between bytecodes only. The
loop's stack alone shows nothing: it stays where it was, in its poll too. Three facts together do: one other thread
owns the GIL in every sample and stands in one place, and the loop's thread is in a futex from which it wakes every few
milliseconds to ask for the GIL again, without ever getting on.
"""

from __future__ import annotations

from hangdebug.scene.scene import Scene, View, once
from hangdebug.scene.waits import Wait, kernel_words, motion, wait

LEAST_SAMPLES = 3  # samples: with fewer, a thread that happens to run looks alike
LEAST_WAKES = 20  # times a second, at least: CPython's switch interval of 5 ms makes it 200
SYSCALLS_OF_ASKING = ("futex", "running", "restart_syscall", None)  # never in its poll
MOST_CPU = 0.2  # the most of a CPU that asking takes


@once
def gil_kept(scene: Scene) -> Wait | None:
    """The thread that keeps the GIL while the loop's thread asks for it in vain; None where no such thread is shown."""
    keeper = owner_in_every_sample(scene)
    return None if keeper is None or not loop_asks_in_vain(scene) or loop_gets_on(scene) else wait(scene, keeper)


def owner_in_every_sample(scene: Scene) -> View | None:
    """The other thread that owns the GIL in every sample, in one place."""
    if len(scene.samples) < LEAST_SAMPLES or not scene.loop:
        return None
    own = scene.loop[-1].thread.os_id
    for one in scene.last:
        seen = scene.of(one)
        if (
            one.thread.os_id != own
            and len(seen) == len(scene.samples)
            and len({view.key for view in seen}) == 1
            and all(view.thread.owns_gil for view in seen)
        ):
            return one
    return None


def loop_asks_in_vain(scene: Scene) -> bool:
    """Whether the loop's thread did nothing but ask for the GIL, each time that the kernel was asked about it."""
    loop = scene.loop[-1]
    words = kernel_words(scene, loop)
    moved = motion(scene, loop)
    if not moved.span or moved.woke is None or moved.woke / moved.span < LEAST_WAKES or (moved.cpu or 0) > MOST_CPU:
        return False
    return all(word.syscall in SYSCALLS_OF_ASKING for word in words) and any(has_timeout(word.args) for word in words)


def loop_gets_on(scene: Scene) -> bool:
    """Whether a task waits for something else in the second reading: the loop has run in between, however slowly."""
    before = {task.id: task.awaits.id for task in scene.evidence.tasks if task.awaits}
    return any(task.awaits and before.get(task.id, task.awaits.id) != task.awaits.id for task in scene.evidence.later)


def has_timeout(args: tuple[int, ...]) -> bool:
    """futex(address, operation, value, timeout, ...), with a timeout."""
    return len(args) > 3 and args[3] != 0
