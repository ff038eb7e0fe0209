"""How the event loop's thread moved: idle, in one place all the time, going on, or stalling in between.

Facts only. What they mean is decided in answer/.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Literal

from hangdebug.evidence.frames import calls, is_application, package
from hangdebug.evidence.kernel import FUTEX_PRIVATE, endless
from hangdebug.evidence.libraries import HANDLE, LOOP, SERVERS
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame, Thread
from hangdebug.scene.locks import ENTERS
from hangdebug.scene.scene import Scene, View, once
from hangdebug.scene.waits import (
    SLEEPING,
    Wait,
    file_name,
    kernel_words,
    motion,
    profile_of,
    samples_outside,
    short_place,
    wait,
)

# "one-place": the same in every sample; "moving": never idle, in several places; "single": one sample is all there
# is; "stalling": idle in some samples, waiting in one place in others that follow each other.
# "released": the kernel had it in one write all the time before the first attach, and it moves since.
Pattern = Literal["one-place", "moving", "single", "stalling", "released"]

# What a server does for one request after its handler has returned, with no frame of the application.
ANSWERS = (
    "fastapi/routing.py:serialize_response",
    "starlette/responses.py:render",
    "starlette/requests.py:json",
)
WRITES = ("write", "writev", "pwrite64", "sendto", "sendmsg", "sendfile")
LEAST_READINGS = 3  # of the kernel's, that show the same call: a loop's own writes never wait
LEAST_RUN = 3  # consecutive samples in one place that make a stall out of a passing moment


@dataclass(frozen=True)
class LoopMotion:
    """The loop's thread where it is not idle. `outside` is (samples outside of the handler, all) of the profile.

    `busy` is whether a thread that is never in one place computes, and does not poll.
    """

    pattern: Pattern
    wait: Wait
    handler: Frame | None = None
    outside: tuple[int, int] | None = None
    busy: bool = False


@once
def loop_motion(scene: Scene) -> LoopMotion | None:
    """None where the loop is idle, or idle in between without a stall."""
    if not scene.loop:
        return None
    held = held_before_attach(scene)
    if held is not None:
        return LoopMotion("released", held)
    if all(view.idle for view in scene.loop):
        return None
    one = wait(scene, scene.loop[-1])
    if one.motion.idle:
        return LoopMotion("stalling", one) if is_stalling(scene, one) else None
    if one.motion.samples == 1:
        return LoopMotion("single", one)
    handler = handler_frame(scene)
    if one.motion.in_place:
        return LoopMotion("one-place", one, handler, samples_outside(scene, one.view, handler))
    busy = busy_while_moving(scene, one)
    if busy:
        one = wait(scene, last_with_application(scene))
    return LoopMotion("moving", one, handler, samples_outside(scene, one.view, handler), busy)


def held_before_attach(scene: Scene) -> Wait | None:
    """The loop's thread in the first sample, where the look itself has ended its wait; None where it has not.

    To attach interrupts a write that has put some of its bytes already: the call returns, and the program goes on. So
    the samples show it idle that the kernel, asked before, had in one call to write all the time.
    """
    readings, first = scene.evidence.readings, scene.loop[0]
    os_id = first.thread.os_id or -1
    words = [one.waits[os_id] for one in readings if os_id in one.waits]
    if len(words) < LEAST_READINGS or len(words) < len(readings) or not any(view.idle for view in scene.loop[1:]):
        return None
    last = words[-1]
    if last.syscall not in WRITES or any(
        (one.syscall, one.args, one.switches) != (last.syscall, last.args, last.switches) for one in words
    ):
        return None
    return replace(wait(scene, first), kernel=last)


def writes_ended(scene: Scene) -> tuple[str, ...]:
    """The threads beside the loop's whose write the look itself may have ended, by name: see held_before_attach()."""
    readings = scene.evidence.readings
    later = [one for one in scene.evidence.attached if one is not None][1:]
    if len(readings) < LEAST_READINGS or not later:
        return ()
    loops = {view.thread.os_id for view in scene.loop}
    names = {thread.os_id: thread.name for thread in scene.evidence.snapshots[-1].threads}
    found = []
    for os_id, last in readings[-1].waits.items():
        calls = {(one.waits[os_id].syscall, one.waits[os_id].args) for one in readings if os_id in one.waits}
        now = later[-1].waits.get(os_id)
        if last.syscall in WRITES and len(calls) == 1 and os_id not in loops and os_id in names:
            same = now is not None and (now.syscall, now.args) in calls  # nothing was put yet, and it was begun again
            found += [] if same else [names[os_id] or f"thread {os_id}"]
    return tuple(found)


def spins(scene: Scene) -> Frame | None:
    """Where the loop's thread burns a CPU and is in no one handler: the library's function that most samples have.

    None where it does not, and where all samples share a function of the application: then that one computes.
    """
    if len(scene.loop) < LEAST_SAMPLES:
        return None
    moved, busy = motion(scene, scene.loop[-1]), [view for view in scene.loop if not view.idle]
    if not busy or not moved.computes or (moved.cpu or 0) < SPINS:
        return None
    if len(busy) == len(scene.loop) and any(map(is_application, shared_frames(scene.loop))):
        return None
    seen: Counter[tuple[bool, str, str]] = Counter()
    for view in busy:
        inner = {frame for frame in view.section if not is_application(frame)}
        seen.update({(package(frame) not in ("asyncio", "selectors", *SERVERS), *place_in(frame)) for frame in inner})
    return Frame(*max(seen, key=lambda one: (one[0], seen[one], one))[1:]) if seen else None


def is_stalling(scene: Scene, one: Wait) -> bool:
    """Whether it waits in one place in samples that follow each other, and is idle in others."""
    known = one.kernel is not None and bool(one.kernel.state)
    waiting = one.kernel.state in SLEEPING if known and one.kernel is not None else one.running is False
    return waiting and one.frame is not None and not one.motion.often and longest_run(scene) >= LEAST_RUN


def last_with_application(scene: Scene) -> View:
    """The last sample in which a frame of the application is on the stack."""
    return next((view for view in reversed(scene.loop) if view.frame is not None), scene.loop[-1])


def busy_while_moving(scene: Scene, one: Wait) -> bool:
    """Whether a thread that is never in one place computes, and does not poll."""
    return bool(one.running or (one.running is None and last_with_application(scene).thread.active))


def waits_for_shared_lock(one: Wait) -> bool:
    """Whether it waits, without a timeout, for a lock that other processes may have as well: which one is not known."""
    if not one.in_syscall("futex") or one.kernel is None:
        return one.starts_with(*ENTERS[1:]) and one.syscall is None
    return endless(one.kernel.args) and not one.kernel.args[1] & FUTEX_PRIVATE and not one.kernel.detail


def gil_owner(scene: Scene, one: Wait) -> Wait | None:
    """The thread that has the GIL, where the loop's thread has something to do and does not get to it.

    It is ready to run, or it waits for a thread to start, which takes no time unless that one gets no GIL.
    """
    thread = one.view.thread
    if thread.owns_gil or not (thread.active or one.inside("threading.py:start")):
        return None
    return next((wait(scene, view) for view in scene.last if view.thread.owns_gil and view.frame is not None), None)


def joins_a_thread(one: Wait) -> bool:
    """A pool that is joined or a thread that is waited for holds the loop for as long as that one works.

    A thread that is started is waited for too, for as long as it takes it to begin: a moment.
    """
    waits = one.inside("threading.py:join", "threading.py:_wait_for_tstate_lock", "threading.py:wait")
    return waits and not one.inside("threading.py:start")


def longest_run(scene: Scene) -> int:
    """The longest run of consecutive samples in one place that is not idle."""
    best = run = 0
    last = None
    for view in scene.loop:
        run = 0 if view.idle else run + 1 if view.key == last else 1
        last = None if view.idle else view.key
        best = max(best, run)
    return best


def shared_frames(loop: tuple[View, ...]) -> list[Frame]:
    """The frames that all samples share, innermost first, lines aside."""
    stacks = [[(f.function, f.file) for f in reversed(view.section)] for view in loop]
    depth = 0
    while all(len(stack) > depth and stack[depth] == stacks[0][depth] for stack in stacks):
        depth += 1
    section = loop[-1].section
    return list(section[len(section) - depth :])


def handler_frame(scene: Scene) -> Frame | None:
    """The application's first frame inside of the loop: a request's handler stays on the stack while it runs.

    Where there is none, the server's function that turns one handler's result into a response.
    """
    shared = shared_frames(scene.loop)
    own = [frame for frame in shared if is_application(frame)] or [f for f in shared if calls(f, *ANSWERS)]
    compiled = scene.evidence.compiled.get(scene.loop[-1].thread.os_id or -1, ())
    below = [frame for frame in scene.loop[-1].thread.frames if frame not in compiled]
    if below and calls(below[0], *HANDLE) and (compiled or not own):
        own = below[:1]  # the profile has no frames of compiled code: it is inside while this one is innermost
    return own[-1] if own else None


def runs_without_a_frame(thread: Thread) -> bool:
    """Whether the loop's thread runs something that has no Python frame: its stack ends where a handler is called."""
    return bool(thread.frames) and calls(thread.frames[0], *HANDLE, *LOOP)


def deepest_shared_frame(scene: Scene) -> Frame | None:
    """The application's deepest frame that all samples share; else the server's function that answers.

    The profile's many samples count as well, or it would be another one in each look: all but a hundredth of them have
    to be inside. A function without a name belongs to the one that it is written in. Its line is the commonest one.
    """
    own = [frame for frame in shared_frames(scene.loop) if is_application(frame)]
    named = [frame for frame in own if not frame.name.startswith("<") or frame.name == "<module>"] or own
    inside = [frame for frame in named if mostly_inside(scene, frame)] or named[-1:]
    return in_commonest_line(scene, inside[0]) if inside else handler_frame(scene)


def same_piece_of_work(scene: Scene) -> bool | None:
    """Whether the tasks that ran, or were about to, before the first attach are all there after the last sample.

    A loaded server is inside of some handler all the time, and each time for another request: then some have ended.
    None where no task is known to run what the loop's thread is in.
    """
    section = scene.loop[-1].section
    ready = [task for task in scene.evidence.tasks if task.frames and not task.waits_on and task.awaits is None]
    first = {task.id for task in ready if section and place_in(task.frames[-1]) == place_in(section[-1])}
    left = {task.id for task in scene.evidence.later}
    return first <= left if first and left else None


def mostly_inside(scene: Scene, frame: Frame) -> bool:
    outside, total = samples_outside(scene, scene.loop[-1], frame) or (0, 0)
    return outside * 100 <= total


def in_commonest_line(scene: Scene, frame: Frame) -> Frame:
    """The frame in the line in which most samples have its function: the outermost call of it, if it calls itself."""
    stacks = [view.section for view in scene.loop]
    lines: Counter[int] = Counter()
    for stack in stacks:
        line = next((one.line for one in reversed(stack) if (one.function, one.file) == place_in(frame)), None)
        lines[line or 0] += 1
    for thread, count in profile_of(scene, scene.loop[-1]):
        same = (one.line for one in reversed(thread.frames) if short_place(one) == short_place(frame))
        lines[next(same, None) or 0] += count
    del lines[0]
    best = min(lines, key=lambda line: (-lines[line], line), default=frame.line)
    return replace(frame, line=best)


def place_in(frame: Frame) -> tuple[str, str]:
    return frame.function, frame.file


def commonest_leaf(scene: Scene) -> tuple[Frame, int, int] | None:
    """The application's innermost function in most of the profile: a frame of it, how many samples, and of how many."""
    own = {file_name(one) for view in scene.loop for one in view.section if is_application(one)}
    profile = profile_of(scene, scene.loop[-1])
    leaves: Counter[tuple[str, str]] = Counter()
    for thread, count in profile:
        leaf = next((one for one in thread.frames if file_name(one) in own), None)
        if leaf is not None:
            leaves[place_in(leaf)] += count
    if not leaves:
        return None
    place, count = min(leaves.items(), key=lambda pair: (-pair[1], pair[0]))
    return Frame(*place), count, sum(count for _, count in profile)


# -- another thread keeps the GIL ----------------------------------------------------------------------

LEAST_SAMPLES = 3  # samples: with fewer, a thread that happens to run looks alike
LEAST_WAKES = 20  # times a second, at least: CPython's switch interval of 5 ms makes it 200
SYSCALLS_OF_ASKING = ("futex", "running", "restart_syscall", None)  # never in its poll
SPINS = 0.3  # of a CPU, at least: on a busy machine a thread that never waits gets no more
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
