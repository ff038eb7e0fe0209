"""What is wrong with the process: an ordered tuple of rules over a scene, the first that speaks is the state.

Every rule answers with (Verdict, the Wait that explains it or None), or with None. Rules say nothing of causes.
"""

from __future__ import annotations

from typing import Optional, Tuple

from hangdebug.causes.interpreter_exit import JOINS
from hangdebug.frames import calls, is_application, package
from hangdebug.model import Verdict
from hangdebug.pools import full, unsure
from hangdebug.scene import Scene, View, is_supervisor
from hangdebug.waits import SLEEPING, Wait, wait

Answer = Optional[Tuple[Verdict, Optional[Wait]]]

RUNNER_END = ("asyncio/runners.py:close", "asyncio/runners.py:__exit__", "asyncio/runners.py:_cancel_all_tasks")
LIFESPAN = "starlette/routing.py:lifespan"
CONFIDENT = 8  # samples that must all agree before a computation is told from a passing moment


def state_of(scene: Scene) -> tuple[Verdict, Wait | None]:
    for rule in RULES:
        found = rule(scene)
        if found is not None:
            return found
    raise AssertionError("the last rule always answers")


def stopped(scene: Scene) -> Answer:
    """The kernel stopped it before anybody attached."""
    reading = scene.evidence.readings[-1] if scene.evidence.readings else None
    states = [found.state for found in reading.waits.values()] if reading else []
    if states and all(state in ("T", "t") for state in states):
        words = ("All of its threads are in state T: it was stopped by a signal or is held by a debugger.",)
        return Verdict("stopped", 0.95, words), None
    return None


def exiting(scene: Scene) -> Answer:
    """The interpreter, or asyncio's runner, is on its way out and waits."""
    joining = scene.shows(*JOINS)
    if joining is not None and not any(package(f) in ("uvicorn", "hypercorn") for v in scene.loop for f in v.thread.frames):
        held = holder(scene)
        words = [f"{name_of(joining)} is in {joining.thread.frames[0]}: the interpreter joins threads before it exits."]
        doubts = () if held else ("The stack of the thread that it waits for is not in the dump.",)
        return Verdict("exit-hang", 0.95 if held else 0.85, tuple(words), doubts), held
    ending = scene.shows(*RUNNER_END)
    if ending is not None and scene.loop and same(scene, ending):
        words = (f"{name_of(ending)} is in {closing(ending)}: asyncio ends, and waits for what is left.",)
        return Verdict("exit-hang", 0.8, words), holder(scene)
    return None


def holder(scene: Scene) -> Wait | None:
    """The thread that an exit waits for: a pool's before any other, one with an application frame before any."""
    busy = [v for v in scene.last if v.role in ("worker", "other") and not v.idle and v.section]
    best = max(busy, key=lambda v: (v.role == "worker", v.frame is not None), default=None)
    return wait(scene, best) if best is not None and best.frame is not None else None


def closing(view: View) -> str:
    return next(str(frame) for frame in view.thread.frames if calls(frame, *RUNNER_END))


def same(scene: Scene, view: View) -> bool:
    return any(view.thread == other.thread for other in scene.loop)


def loop_held(scene: Scene) -> Answer:
    """The loop's thread is in one place, waiting or computing, in every sample."""
    if not scene.loop or all(view.idle for view in scene.loop):
        return None
    one = wait(scene, scene.loop[-1])
    if one.motion.idle:
        return stalls(scene, one)
    if one.motion.samples == 1:
        return single(scene, one)
    if one.motion.same == one.motion.samples:
        return together(scene, one)
    return moving(scene, one)


def together(scene: Scene, one: Wait) -> Answer:
    """The same place in every sample."""
    agree = f"All {one.motion.samples} samples show the event loop's thread in the same place."
    if one.running:
        return busy(scene, one, agree)
    words, sure = [agree], 0.9
    if one.motion.woke is not None:
        words.append(f"It woke {times(one.motion.woke)} in the {one.motion.span:.1f} s before the first attach.")
        sure = 0.95 if one.motion.woke == 0 else 0.85
    return Verdict(lifespan_state(one) or "loop-blocked", sure, tuple(words)), one


def single(scene: Scene, one: Wait) -> Answer:
    """One dump only: what a call is shows that it waits, not for how long."""
    doubts = ["One dump shows one moment: it cannot show that the thread stays there."]
    state = lifespan_state(one) or "loop-blocked"
    if one.view.inner and waits_in(one):
        return Verdict(state, 0.85, (), tuple(doubts)), one
    if one.frame is None:
        words = (f"The event loop's thread is in {one.view.section[0]}, with no frame of the application.",)
        return Verdict("inconclusive", 0.4, words, tuple(doubts)), one
    if one.running or one.running is None and one.view.inner:
        words = (f"The event loop's thread is at work in {one.frame}.",)
        return Verdict("loop-busy", 0.5, words, (*doubts, "A healthy server is caught at work now and then.")), one
    words = ("The thread sleeps in a C call that this line makes; such a call has no frame of its own.",)
    return Verdict(state, 0.8, words, tuple(doubts)), one


def waits_in(one: Wait) -> bool:
    """Whether the innermost library call is one that waits, as far as frames can tell."""
    if one.running:
        return False
    return one.running is False or calls(one.view.inner[0], *WAITING)


WAITING = (
    "threading.py:wait", "threading.py:_wait_for_tstate_lock", "threading.py:join", "threading.py:acquire",
    "socket.py:readinto", "ssl.py:read", "ssl.py:recv", "ssl.py:recv_into", "selectors.py:select", "queue.py:get",
    "subprocess.py:_try_wait", "concurrent/futures/_base.py:result", "urllib3/util/wait.py", "socket.py:create_connection",
    "urllib3/util/connection.py:create_connection", "multiprocessing/popen_fork.py:poll", "httpcore/_backends/sync.py",
)


def moving(scene: Scene, one: Wait) -> Answer:
    """Never idle, and not in one line: one handler that computes or polls, or one piece of work after another."""
    shared = common(scene.loop)
    own = [frame for frame in shared if is_application(frame)]
    total = one.motion.samples
    if not own:
        words = (f"The event loop was at work in each of {total} samples, in different places: it moves on.",)
        return Verdict("healthy", 0.7, words, ("A loop that is never idle is close to its limit.",)), None
    inner = next(view for view in reversed(scene.loop) if view.frame is not None)
    words = f"All {total} samples show the event loop's thread inside {own[0].function}, in different lines."
    if one.running or one.running is None and inner.thread.active:
        return busy(scene, wait(scene, inner), words)
    return Verdict("loop-blocked", 0.8, (words, "It mostly sleeps: it waits again and again.")), one


def busy(scene: Scene, one: Wait, words: str) -> Answer:
    """Burning CPU. A loaded server that serves one short handler looks alike, until it is seen between two."""
    if one.frame is None:
        return Verdict("healthy", 0.6, (words, "It is in the server's own code."), ("A loop that is never idle is close"
                       " to its limit.",)), None
    enough = one.motion.samples >= CONFIDENT
    doubts = () if enough else (f"{one.motion.samples} samples cannot tell one long computation from many short ones.",)
    return Verdict("loop-busy", 0.92 if enough else 0.65, (words,), doubts), one


def common(loop: tuple[View, ...]) -> list:
    """The frames that all samples share, innermost first, lines aside."""
    stacks = [[(f.function, f.file) for f in reversed(view.section)] for view in loop]
    depth = 0
    while all(len(stack) > depth and stack[depth] == stacks[0][depth] for stack in stacks):
        depth += 1
    section = loop[-1].section
    return list(section[len(section) - depth:])


def stalls(scene: Scene, one: Wait) -> Answer:
    """Idle in some samples, waiting in one place in most others: it comes and goes."""
    total = one.motion.samples
    waiting = one.running is False or one.kernel is not None and one.kernel.state in SLEEPING and one.running is not True
    if total < 4 or one.motion.same * 2 < total or not waiting or one.frame is None or not longest(scene) > 1:
        return None
    words = (f"{one.motion.same} of {total} samples show the event loop's thread waiting in {one.frame}; in "
             f"{one.motion.idle} it was idle: it stalls again and again.",)
    return Verdict("loop-blocked", 0.75, words, ("It moves on between the stalls, so short requests get through.",)), one


def longest(scene: Scene) -> int:
    """The longest run of consecutive samples in one place that is not idle."""
    best = run = 0
    last = None
    for view in scene.loop:
        run = 0 if view.idle else run + 1 if view.key == last else 1
        last = None if view.idle else view.key
        best = max(best, run)
    return best


def lifespan_state(one: Wait) -> str | None:
    """exit-hang or startup-hang, when the loop runs the application's lifespan."""
    frames = one.view.thread.frames
    index = next((i for i, frame in enumerate(frames) if calls(frame, LIFESPAN)), None)
    if index is None:
        return None
    for frame in reversed(frames[:index]):
        if frame.name in ("__aexit__", "shutdown", "_shutdown"):
            return "exit-hang"
        if frame.name in ("__aenter__", "startup", "_startup"):
            return "startup-hang"
    return None


def pool_full(scene: Scene) -> Answer:
    """The loop is fine, and no thread is left for synchronous work."""
    return full(scene) or unsure(scene) if scene.loop else None


def fine(scene: Scene) -> Answer:
    """The loop is idle, or idle in between."""
    if not scene.loop:
        return None
    total, idle = len(scene.loop), sum(view.idle for view in scene.loop)
    if not idle:
        return None
    words = [f"The event loop was idle in {idle} of {total} samples." if total > 1 else "The event loop is idle."]
    clients, doubts, sure = scene.evidence.clients, [], 0.9
    if total == 1:
        sure = 0.6
        doubts.append("One dump shows one moment.")
    if clients is None or clients.open:
        sure = min(sure, 0.7)
        doubts.append("Coroutines that wait for something that never comes cannot be seen in stacks.")
    if idle < total:
        sure = min(sure, 0.7)
    return Verdict("healthy", sure, tuple(words), tuple(doubts)), None


def unknown(scene: Scene) -> Answer:
    """Nothing above applies: there is no event loop to judge by."""
    if is_supervisor(scene.evidence.snapshots[-1]):
        words = ("It is a server's supervisor: it watches over workers and serves nothing itself.",)
        return Verdict("healthy", 0.7, words, ("Whether its workers hang, only their own stacks show.",)), None
    words = ("No thread in this evidence runs an event loop.",)
    main = next((v for v in scene.last if v.role == "main"), None)
    return Verdict("inconclusive", 0.3, words, ()), wait(scene, main) if main is not None and main.frame else None


def name_of(view: View) -> str:
    one = view.thread
    return one.name or ("a thread" if one.os_id is None else f"thread {one.os_id}")


def times(count: int) -> str:
    return {0: "not once", 1: "once"}.get(count, f"{count} times")


RULES = (stopped, exiting, loop_held, pool_full, fine, unknown)
