"""The loop's thread is not idle: held in one place, burning CPU in one handler, or going from one to the next."""

from __future__ import annotations

from typing import Optional, Tuple

from hangdebug.answer.model import Verdict
from hangdebug.causes import cause_of
from hangdebug.evidence.frames import calls, is_application, package
from hangdebug.evidence.kernel import FUTEX_PRIVATE, endless
from hangdebug.evidence.libraries import SERVERS
from hangdebug.evidence.model import Frame
from hangdebug.scene.graph import RESULT
from hangdebug.scene.locks import ENTERS
from hangdebug.scene.rings import nobody_gives, nobody_seen, ring
from hangdebug.scene.scene import Scene, View
from hangdebug.scene.waits import SLEEPING, Wait, elsewhere, wait

Answer = Optional[Tuple[Verdict, Optional[Wait]]]

# What servers import the application in, before they serve it.
LOADS = (
    "uvicorn/importer.py",
    "uvicorn/config.py:load",
    "uvicorn/config.py:load_app",
    "gunicorn/util.py:import_app",
    "hypercorn/utils.py:load_application",
    "granian/_internal.py",
)
LIFESPANS = ("uvicorn/lifespan/on.py:main", "granian/asgi.py:_runner")
# aiohttp and Quart have no such function: their start and end are calls of these.
STARTS = ("aiohttp/web_app.py:startup", "aiohttp/web_runner.py:setup", "quart/app.py:startup", "sanic/app.py:_startup")
STOPS = (
    "quart/app.py:shutdown",
    "aiohttp/web_app.py:shutdown",
    "aiohttp/web_app.py:cleanup",
    "aiohttp/web_runner.py:shutdown",
    "aiohttp/web_runner.py:cleanup",
)
# Innermost library calls that wait, whatever the library: what a stack shows of a wait without the kernel.
WAITING = frozenset(
    """wait wait_for _wait_for_tstate_lock join acquire sleep _sleep readinto read recv recv_into recvfrom
    select poll get result _try_wait create_connection wait_for_read wait_for_write do_handshake connect accept send
    sendall flush communicate _wait _communicate readline""".split()
)
# Causes that a library's frames alone show, and that wait for somebody.
WAITS = frozenset(
    "http-client database connection-pool socket dns subprocess queue file-io future-result thread-join".split()
)
# What a server does for one request after its handler has returned, with no frame of the application.
ANSWERS = ("fastapi/routing.py:serialize_response", "starlette/responses.py:render", "starlette/requests.py:json")
LISTENERS, SERVING = (
    "sanic/app.py:_server_event",
    "sanic/server/runners.py:_run_server_forever",
)  # of its start and end alike
SAME_LOOP = ("nest_asyncio", "nest_asyncio2")
LEAST_RUN = 3  # consecutive samples in one place that make a stall out of a passing moment
STALL = 0.7
AT_LIMIT = "A loop that is hardly ever idle is at its limit."


def loop_held(scene: Scene) -> Answer:
    """None when the loop is idle, or idle in between without a stall."""
    if not scene.loop or all(view.idle for view in scene.loop):
        return None
    one = wait(scene, scene.loop[-1])
    if one.motion.idle:
        return stalls(scene, one)
    if one.motion.samples == 1:
        return single(scene, one)
    return together(scene, one) if one.motion.same == one.motion.samples else moving(scene, one)


def together(scene: Scene, one: Wait) -> Answer:
    """The same place in every sample: one long wait, or one of many short ones that follow each other."""
    agree = f"All {one.motion.samples} samples show the event loop's thread in the same place."
    state = state_held(scene, one)
    if one.running or one.motion.often:
        return judged(scene, one, agree, "loop-busy" if one.running else state)
    if between_processes(one) and state == "loop-blocked":
        doubt = "Whether another process is left that could release what it waits for is not known."
        return Verdict(state, 0.75, (agree,), (doubt,)), one
    if one.motion.woke is None:
        return Verdict(state, 0.9, (agree,)), one
    woke = f"It woke {times(one.motion.woke)} in the {one.motion.span:.1f} s before the first attach."
    return Verdict(state, 0.95 if one.motion.woke == 0 else 0.85, (agree, woke)), one


def between_processes(one: Wait) -> bool:
    """Whether it waits, without a timeout, for a lock that other processes may have as well: which, the evidence does not say."""
    if not one.in_syscall("futex"):
        return one.starts_with(*ENTERS[1:]) and (one.kernel is None or one.kernel.syscall is None)
    return endless(one.kernel.args) and not one.kernel.args[1] & FUTEX_PRIVATE and not one.kernel.detail


def moving(scene: Scene, one: Wait) -> Answer:
    """Never idle, and not in one line: one handler that computes or polls, or one piece of work after another."""
    own = [frame for frame in common(scene.loop) if is_application(frame)] or list(filter(None, [outermost(scene)]))
    total = one.motion.samples
    if not own:
        words = (f"The event loop was at work in each of {total} samples, in different places: it moves on.",)
        return Verdict("healthy", 0.7, words, (AT_LIMIT,)), None
    inner = next((view for view in reversed(scene.loop) if view.frame is not None), scene.loop[-1])
    words = f"All {total} samples show the event loop's thread inside {own[0].function}, in different lines."
    busy = one.running or one.running is None and inner.thread.active
    return judged(scene, wait(scene, inner) if busy else one, words, "loop-busy" if busy else "loop-blocked")


def judged(scene: Scene, one: Wait, words: str, state: str) -> Answer:
    """Whether it stays inside of one handler. A loaded server looks alike, until it is seen between two requests."""
    handler = outermost(scene)
    if handler is None:
        return Verdict("healthy", 0.6, (words, "It is in the server's own code."), (AT_LIMIT,)), None
    seen = elsewhere(scene, one.view, handler)
    if seen is None:
        doubt = "One long piece of work and many short ones look alike in so few samples."
        return Verdict(state, 0.65, (words,), (doubt,)), one
    away, total = seen
    told = f"Sampled {total} times in a second, it was outside of {handler.function} {times(away)}."
    if away * 100 <= total:
        return Verdict(state, 0.92 if away == 0 else 0.75, (words, told)), one
    doubt = f"Most of its time goes into {one.frame or handler}, and each such moment holds up all requests."
    return Verdict("healthy", 0.6, (told, "It moves on from one piece of work to the next."), (AT_LIMIT, doubt)), None


def single(scene: Scene, one: Wait) -> Answer:
    """One dump only: what a call is shows that it waits, not for how long."""
    doubts = ("One dump shows one moment: it cannot show that the thread stays there.",)
    state = state_held(scene, one)
    if one.frame is None and not never_right(one):
        words = (f"The event loop's thread is in {one.view.section[0]}, with no frame of the application.",)
        return Verdict("inconclusive", 0.4, words, doubts), one
    keeper = gil_keeper(scene, one)
    if keeper is not None:
        words = (f"The event loop's thread stands in {one.frame}, and {name(keeper)} has the GIL, in {keeper.frame}.",)
        return Verdict(
            "inconclusive", 0.45, words, (*doubts, "If it does not give the GIL away, the loop cannot run.")
        ), keeper
    if one.inside_package(*SAME_LOOP) and package(one.view.inner[0]) in (*SAME_LOOP, "asyncio", "selectors"):
        words = (f"{one.outermost} may run the server's own loop again: then it serves all the time.",)
        return Verdict("inconclusive", 0.5, words, doubts), one
    if one.view.inner and not one.running and (one.running is False or one.view.inner[0].name in WAITING):
        alone = one.starts_with(*RESULT) and (
            nobody_seen(scene) or nobody_gives(scene)
        )  # whoever should complete the future is not shown
        return Verdict(state, 0.85 if never_right(one) and (state == "deadlock" or not alone) else 0.7, (), doubts), one
    if one.running is None and one.view.inner and cause_of(Verdict(state, 0.5), one, scene)[0].id in WAITS:
        return Verdict(state, 0.5, (), (*doubts, "The dump does not say whether the call waits or computes.")), one
    if one.running or one.running is None and one.view.inner:
        words = (f"The event loop's thread is at work in {one.frame}.",)
        return Verdict(
            "loop-busy",
            0.5 if one.running else 0.4,
            words,
            (*doubts, "A healthy server is caught at work now and then."),
        ), one
    words = ("The thread sleeps in a C call that this line makes; such a call has no frame of its own.",)
    return Verdict(state, 0.7, words, doubts), one


def gil_keeper(scene: Scene, one: Wait) -> Wait | None:
    """The thread that has the GIL, where the loop's thread has something to do and does not get to it.

    It is ready to run, or it waits for a thread to start, which takes no time unless that one gets no GIL.
    """
    thread = one.view.thread
    if thread.owns_gil or not (thread.active or one.inside("threading.py:start")):
        return None
    return next((wait(scene, view) for view in scene.last if view.thread.owns_gil and view.frame is not None), None)


def name(one: Wait) -> str:
    return one.view.thread.name or "another thread"


def never_right(one: Wait) -> bool:
    """A pool that is joined or a thread that is waited for holds the loop for as long as that one works.

    A thread that is started is waited for too, for as long as it takes it to begin: a moment.
    """
    waits = one.inside("threading.py:join", "threading.py:_wait_for_tstate_lock", "threading.py:wait")
    return waits and not one.inside("threading.py:start")


def stalls(scene: Scene, one: Wait) -> Answer:
    """Idle in some samples, waiting in one place in others that follow each other: it comes and goes."""
    total = one.motion.samples
    known = one.kernel is not None and bool(one.kernel.state)
    waiting = one.kernel.state in SLEEPING if known else one.running is False
    if not waiting or one.frame is None or one.motion.often or longest(scene) < LEAST_RUN:
        return None
    words = (
        f"{one.motion.same} of {total} samples show the event loop's thread waiting in {one.frame}; in "
        f"{one.motion.idle} it was idle: it stalls again and again.",
    )
    return Verdict(
        "loop-blocked", STALL, words, ("It moves on between the stalls, so short requests get through.",)
    ), one


def longest(scene: Scene) -> int:
    """The longest run of consecutive samples in one place that is not idle."""
    best = run = 0
    last = None
    for view in scene.loop:
        run = 0 if view.idle else run + 1 if view.key == last else 1
        last = None if view.idle else view.key
        best = max(best, run)
    return best


def common(loop: tuple[View, ...]) -> list[Frame]:
    """The frames that all samples share, innermost first, lines aside."""
    stacks = [[(f.function, f.file) for f in reversed(view.section)] for view in loop]
    depth = 0
    while all(len(stack) > depth and stack[depth] == stacks[0][depth] for stack in stacks):
        depth += 1
    section = loop[-1].section
    return list(section[len(section) - depth :])


def outermost(scene: Scene) -> Frame | None:
    """The application's first frame inside of the loop: a request's handler stays on the stack while it runs.

    Where there is none, the server's function that turns one handler's result into a response.
    """
    shared = common(scene.loop)
    own = [frame for frame in shared if is_application(frame)] or [frame for frame in shared if calls(frame, *ANSWERS)]
    return own[-1] if own else None


def state_held(scene: Scene, one: Wait) -> str:
    return "deadlock" if ring(one, scene) else lifespan_state(one.view.thread.frames) or "loop-blocked"


def lifespan_state(frames: tuple[Frame, ...]) -> str | None:
    """startup-hang while the server loads the application; that or exit-hang when the loop runs its lifespan."""
    if any(calls(frame, *LOADS) for frame in frames):
        return "startup-hang"
    index = max((i for i, frame in enumerate(frames) if lifespan(frame)), default=0)
    for frame in reversed(frames[:index]):
        if frame.name in ("__aexit__", "shutdown", "_shutdown"):
            return "exit-hang"
        if frame.name in ("__aenter__", "startup", "_startup"):
            return "startup-hang"
    if any(calls(frame, LISTENERS) for frame in frames):
        return "exit-hang" if any(calls(frame, SERVING) for frame in frames) else "startup-hang"
    if any(calls(frame, *STOPS) for frame in frames):
        return "exit-hang"
    return "startup-hang" if any(calls(frame, *STARTS) for frame in frames) else None


def lifespan(frame: Frame) -> bool:
    """Whether an async server or framework runs the application's start and end there."""
    return package(frame) in SERVERS and (
        frame.name in ("lifespan", "handle_lifespan", "_lifespan") or calls(frame, *LIFESPANS)
    )


def times(count: int) -> str:
    return {0: "not once", 1: "once"}.get(count, f"{count} times")
