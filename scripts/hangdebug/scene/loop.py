"""How the event loop's thread moved: idle, in one place all the time, going on, or stalling in between.

Facts only. What they mean is decided in answer/.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Literal

from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, is_application, package
from hangdebug.evidence.kernel import FUTEX_PRIVATE, endless, ends_by_itself
from hangdebug.evidence.libraries import HANDLE, IMPORTS, JOIN, LOOP, SERVERS
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame, Task, Thread
from hangdebug.scene.graph import sleeps_in_place
from hangdebug.scene.locks import ENTERS
from hangdebug.scene.pools import in_default_executor
from hangdebug.scene.requests import between_jobs, waits_for_work
from hangdebug.scene.scene import Scene, View, once
from hangdebug.scene.tasks import as_wait, runs_application, task_waits
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
    waits = one.inside(*JOIN, "threading.py:wait")
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


# -- start and end -------------------------------------------------------------------------------------
# A server's start and end, as frames and tasks show them: is it loaded, started, stopped, or on its way out?

Stage = Literal["starting", "stopping"]

# What servers import the application in, before they serve it.
LOADS = (
    "uvicorn/importer.py",
    "uvicorn/config.py:load",
    "uvicorn/config.py:load_app",
    "gunicorn/util.py:import_app",
    "hypercorn/utils.py:load_application",
    "granian/_internal.py",
)
# The line of a script that serves, whatever with.
SERVES_LATER = re.compile(
    r"\b(?:run_app|run_simple|run_server|serve|serve_forever|quickstart|worker_main|execute_from_command_line)\(|"
    r"\b\w*(?:uvicorn|server|httpd|app|application|worker|consumer|bot)\.(?:run|listen|start|serve|work)\("
)
LIFESPANS = ("uvicorn/lifespan/on.py:main", "granian/asgi.py:_runner")
# aiohttp and Quart have no such function: their start and end are calls of these.
STARTS = (
    "aiohttp/web_app.py:startup",
    "aiohttp/web_runner.py:setup",
    "quart/app.py:startup",
    "sanic/app.py:_startup",
)
STOPS = (
    "quart/app.py:shutdown",
    "aiohttp/web_app.py:shutdown",
    "aiohttp/web_app.py:cleanup",
    "aiohttp/web_runner.py:shutdown",
    "aiohttp/web_runner.py:cleanup",
)
LISTENERS, SERVING = "sanic/app.py:_server_event", "sanic/server/runners.py:_run_server_forever"  # start and end alike
# The tasks that run a lifespan.
RUNS = (
    "uvicorn/lifespan/on.py:main",
    "hypercorn/asyncio/lifespan.py:handle_lifespan",
    "starlette/routing.py:lifespan",
    LISTENERS,
    *STARTS,
    *STOPS,
)
# How a server waits for its application's lifespan, whatever the application is made with.
WAITS_FOR_START = ("uvicorn/lifespan/on.py:startup", "hypercorn/asyncio/lifespan.py:wait_for_startup")
WAITS_FOR_END = ("uvicorn/lifespan/on.py:shutdown", "hypercorn/asyncio/lifespan.py:wait_for_shutdown")


def stage_of(frames: tuple[Frame, ...]) -> Stage | None:
    """Whether the stack loads the application or runs the start or the end of its lifespan; None where neither."""
    if any(calls(frame, *LOADS) for frame in frames):
        return "starting"
    index = max((i for i, frame in enumerate(frames) if runs_lifespan(frame)), default=0)
    for frame in reversed(frames[:index]):
        if frame.name in ("__aexit__", "shutdown", "_shutdown"):
            return "stopping"
        if frame.name in ("__aenter__", "startup", "_startup"):
            return "starting"
    if any(calls(frame, LISTENERS) for frame in frames):
        return "stopping" if any(calls(frame, SERVING) for frame in frames) else "starting"
    if any(calls(frame, *STOPS) for frame in frames):
        return "stopping"
    return "starting" if any(calls(frame, *STARTS) for frame in frames) else None


def runs_in_import(frames: tuple[Frame, ...]) -> bool:
    """Whether a module runs a loop while it is imported, and no server in it: `VALUES = asyncio.run(load())`."""
    run = next((index for index, frame in enumerate(frames) if calls(frame, *LOOP)), len(frames))
    below = frames[run:]
    imported = next((index for index, frame in enumerate(below) if calls(frame, *IMPORTS)), 0)
    return imported > 0 and not any(package(frame) in SERVERS for frame in below[:imported])


def runs_before_serving(scene: Scene) -> bool:
    """Whether the loop is one that a module runs while it is imported, or in a script before the line that serves."""
    if not scene.loop or scene.evidence.process.listens:
        return False
    frames = scene.loop[-1].thread.frames
    run = next((index for index, frame in enumerate(frames) if calls(frame, *LOOP)), len(frames))
    in_server = any(package(frame) in SERVERS for frame in frames)
    return runs_in_import(frames) or (
        not in_server and any(serves_below(scene, frame) for frame in frames[run:] if is_application(frame))
    )


def serves_below(scene: Scene, frame: Frame) -> bool:
    """Whether the function, or module, that stands in `frame` serves further down."""
    known, at = scene.evidence.sources.get(frame.file, {}), frame.line or 0
    inside = frame.name != "<module>"
    for number in sorted(one for one in known if one > at):
        if inside and known[number][:1].strip():
            return False  # the function has ended
        if SERVES_LATER.search(known[number]):
            return True
    return False


def runs_lifespan(frame: Frame) -> bool:
    """Whether an async server or framework runs the application's start and end there."""
    names = ("lifespan", "handle_lifespan", "_lifespan")
    return package(frame) in SERVERS and (frame.name in names or calls(frame, *LIFESPANS))


def unmoved_lifespan(scene: Scene) -> Task | None:
    """The task of the lifespan that stands in the same line of the application in both readings of the tasks.

    A loop that runs before the server does has no other tasks.
    """
    whole = runs_before_serving(scene)
    lines = {task.id: awaiting_line(task, whole) for task in scene.evidence.tasks}
    return next(
        (
            task
            for task in scene.evidence.later
            if awaiting_line(task, whole) is not None and lines.get(task.id) == awaiting_line(task, whole)
        ),
        None,
    )


def awaiting_line(task: Task, whole: bool) -> tuple[str, int | None] | None:
    """Where the application's code awaits inside of a lifespan, None for others; a `whole` loop runs only that."""
    if not (whole or any(calls(frame, *RUNS) for frame in task.frames)):
        return None
    return next(((frame.file, frame.line) for frame in task.frames if is_application(frame)), None)


def stage_of_task(scene: Scene, task: Task) -> Stage | None:
    """Which part of the lifespan the task is in, by what the server's own tasks wait for."""
    if runs_before_serving(scene):
        return "starting"
    others = [frame for one in scene.evidence.later for frame in one.frames]
    if any(calls(frame, *WAITS_FOR_END) for frame in others):
        return "stopping"
    if any(calls(frame, *WAITS_FOR_START) for frame in others):
        return "starting"
    return stage_of((*task.frames, *scene.loop[-1].thread.frames))


# -- a process on its way out --------------------------------------------------------------------------

A_SERVER = re.compile(r"\b(?:uvicorn|hypercorn|granian|gunicorn|fastapi|starlette|FastAPI|Starlette)\b")
LOOP_ALONE = ("uvicorn", "hypercorn", "daphne")  # servers that serve in an event loop and nowhere else


def was_a_server(scene: Scene) -> bool:
    """Whether the process was a server, by its command and sources, or where these are not known.

    Then it ends because it was told to; a script's main thread may just have done its part.
    """
    return not scene.evidence.readings or is_a_server(scene)


def is_a_server(scene: Scene) -> bool:
    """Whether the evidence says that the process is a server, or was one until its end."""
    lines = (line for known in scene.evidence.sources.values() for line in known.values())
    return bool(scene.evidence.process.server) or any(A_SERVER.search(line) for line in lines)


def still_serves(scene: Scene) -> bool:
    """Whether a server's loop still runs, be it in a thread while the main thread waits for it."""
    running = any(package(frame) in ("uvicorn", "hypercorn") for view in scene.loop for frame in view.thread.frames)
    return running and scene.evidence.process.listens is not False


def works_on(scene: Scene) -> bool:
    """Whether each thread that is left runs a loop, accepts, waits for work or for a while, or moves: none is stuck."""
    loops = [view for view in scene.last if view.role == "event-loop"]
    rest = [wait(scene, view) for view in scene.last if view.role in ("worker", "other") and not view.idle]
    if not (rest or loops) or not all(view.idle for view in loops):
        return False
    timed = [one for one in rest if one.kernel is not None and ends_by_itself(one.kernel)]
    return all(
        one in timed or between_jobs(one) or waits_for_work(one.view) or not sleeps_in_place(one) for one in rest
    )


def waited_for(scene: Scene) -> Wait | None:
    """The thread that an exit waits for: the default executor's, then a pool's, one with an application frame first."""
    busy = [view for view in scene.last if view.role in ("worker", "other") and not view.idle and view.section]
    best = max(busy, key=lambda v: (in_default_executor(v), v.role == "worker", v.frame is not None), default=None)
    return wait(scene, best) if best is not None and best.frame is not None else None


def task_left(scene: Scene) -> Wait | None:
    """The only task of the application's own that has not ended, where its list is known."""
    tasks = [task for task in task_waits(scene).tasks.values() if runs_application(task)]
    return as_wait(scene, tasks[0]) if len(tasks) == 1 else None


def unfinished_request(scene: Scene) -> Wait | None:
    """The coroutine that a stopping server waits for: it serves a request, and waits in the application's code."""
    seen = task_waits(scene)
    tasks = [task for task in seen.tasks.values() if task.id in seen.served and runs_application(task)]
    waits = [as_wait(scene, task) for task in tasks]
    return next((one for one in waits if one.frame is not None), None)
