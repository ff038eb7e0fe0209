"""What is wrong with the process: an ordered tuple of rules over a scene, the first that speaks is the state.

Every rule answers with (Verdict, the Wait that explains it or None), or with None. Rules say nothing of causes.
"""

from __future__ import annotations

import re
from typing import Optional, Tuple

from hangdebug.causes.default_executor import is_default, joined
from hangdebug.causes.fork import abandoned
from hangdebug.causes.import_lock import MACHINERY
from hangdebug.causes.interpreter_exit import JOINS
from hangdebug.checkouts import awaited_in_vain, lent_out
from hangdebug.frames import calls, is_application, package
from hangdebug.gil import starved
from hangdebug.held import LOADS, loop_held, state_held
from hangdebug.kernel import ends_by_itself
from hangdebug.lifespans import lifespan_waits
from hangdebug.loops import tasks_alone, to_look_at
from hangdebug.locks import wanted
from hangdebug.model import Frame, Verdict
from hangdebug.pending import as_wait, own_code, queued, suspects, tasks_waiting, told_of, unanswered, waiting
from hangdebug.pools import backed_up, full, to_the_brim, unsure
from hangdebug.rings import deadlock
from hangdebug.scene import SERVERS, Scene, View, is_child, is_supervisor, not_cut, since_fork, supervises, whole
from hangdebug.slow_steps import held_before
from hangdebug.waitfor import JOIN, is_timed, stands
from hangdebug.waits import Wait, name_of, stuck_workers, wait
from hangdebug.workers import expects, parked, synchronous

Answer = Optional[Tuple[Verdict, Optional[Wait]]]

SERVES = re.compile(r"\b(?:uvicorn|hypercorn|granian|gunicorn|fastapi|starlette|FastAPI|Starlette)\b")
STOPPING = ("uvicorn/server.py:shutdown",)
AT_EXIT = "weakref.py:_exitfunc"  # an atexit hook of the standard library
RUNNER_END = ("asyncio/runners.py:close", "asyncio/runners.py:__exit__", "asyncio/runners.py:_cancel_all_tasks")


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


def orphaned(scene: Scene) -> Answer:
    """A forked child's only thread waits for a lock: whoever held it was not copied."""
    one = wait(scene, scene.last[0]) if len(scene.last) == 1 else None
    found = abandoned(one, scene) if one is not None and one.motion.same == one.motion.samples else None
    if found is None or one.frame is None:
        return None
    if scene.loop and state_held(scene, one) == "deadlock":
        return None  # it runs a loop of its own, and waits for that
    words = ("It is a forked child with one thread, and that thread waits for a lock: nobody is left to release it.",)
    return Verdict("deadlock", 0.95 if "kernel" in found.kinds else 0.65, (*words, *found.evidence)), one


def supervising(scene: Scene) -> Answer:
    """A supervisor whose other threads may run a loop of their own, which serves nobody."""
    return supervisor() if supervises(scene.evidence.snapshots[-1]) else None


def supervisor() -> Answer:
    words = ("It is a server's supervisor: it watches over workers and serves nothing itself.",)
    return Verdict("healthy", 0.7, words, ("Whether its workers hang, only their own stacks show.",), True), None


def exiting(scene: Scene) -> Answer:
    """The interpreter, or asyncio's runner, is on its way out and waits."""
    joining = scene.shows(*JOINS)
    if joining is not None and not serves(scene):
        held = holder(scene)
        if any(calls(frame, *JOINS[:3]) for frame in joining.thread.frames) and not served_once(scene) and goes_on_by_itself(scene):
            return None  # a program whose main thread has done its part, and whose other threads work on
        words = (f"{name_of(joining)} is in {joining.thread.frames[0]}: the interpreter joins threads before it exits.",)
        doubts = () if held else ("The stack of the thread that it waits for is not in the evidence.",)
        return Verdict("exit-hang", 0.95 if held else 0.75, words, doubts), held
    last = joined(scene)
    if last is not None and scene.loop and scene.loop[-1].idle:
        words = (f"{name_of(last)} joins the loop's default executor, as asyncio does when a program ends.",)
        return Verdict("exit-hang", 0.9, words), holder(scene)
    ending = scene.shows(*RUNNER_END)
    if ending is not None and any(ending.thread == view.thread for view in scene.loop):
        step = next(frame for frame in ending.thread.frames if calls(frame, *RUNNER_END))
        words = (f"{name_of(ending)} is in {step}: asyncio ends, and waits for what is left.",)
        return Verdict("exit-hang", 0.85, words), holder(scene) or left_over(scene)
    return finalizing(scene)


def served_once(scene: Scene) -> bool:
    """Whether the process was a server, as far as its command and its sources tell: then it ends because it was told to."""
    lines = (line for known in scene.evidence.sources.values() for line in known.values())
    return bool(scene.evidence.process.server) or not scene.evidence.readings or any(SERVES.search(line) for line in lines)


def goes_on_by_itself(scene: Scene) -> bool:
    """Whether no thread that is left is stuck for good: they run a loop, accept, wait for work or for a while, or move."""
    loops = [view for view in scene.last if view.role == "event-loop"]
    rest = [wait(scene, view) for view in scene.last if view.role in ("worker", "other") and not view.idle]
    return bool(rest or loops) and all(view.idle for view in loops) and all(parked(one) or not stands(one) or one.kernel is not None and ends_by_itself(one.kernel)
                              or expects(one.view) for one in rest)


def left_over(scene: Scene) -> Wait | None:
    """The only task of the application's own that has not ended, where its list is known."""
    tasks = [task for task in waiting(scene).tasks.values() if own_code(task)]
    return as_wait(scene, tasks[0]) if len(tasks) == 1 else None


def finalizing(scene: Scene) -> Answer:
    """An atexit hook: the main thread runs a function that no module, and no event loop, has called."""
    main = next((view for view in scene.last if view.role == "main"), None)
    if main is None or scene.loop:
        return None
    snapshot = scene.evidence.snapshots[-1]
    if main.frame is None:
        return joining_hook(scene, main) if whole(snapshot) else None
    if not whole(snapshot) and not (snapshot.format == "py-spy JSON" and not_cut(scene.evidence, main.thread.frames[-1])):
        return None
    bottom = main.thread.frames[-1]
    if is_child(scene.evidence.snapshots[-1]) or not (is_application(bottom) or calls(bottom, AT_EXIT)):
        return None
    if main.thread.frames[-1].name == "<module>" or scene.evidence.process.listens and not runs_uvicorn(scene):
        return None  # a server written in C may call the application, and listen
    words = (f"{main.thread.frames[-1]} is called by the interpreter itself, as it calls atexit hooks when it ends.",)
    return Verdict("exit-hang", 0.85, words), wait(scene, main)


def joining_hook(scene: Scene, main: View) -> Answer:
    """An atexit hook that is a library's own, such as QueueListener.stop, and joins a thread."""
    bottom, held = main.thread.frames[-1], holder(scene)
    joins = any(calls(frame, *JOIN) for frame in main.thread.frames)
    if not joins or held is None or bottom.name == "<module>" or calls(bottom, *JOIN) or scene.evidence.process.listens or is_child(scene.evidence.snapshots[-1]):
        return None
    words = (f"{bottom} is called by the interpreter itself, as it calls atexit hooks when it ends, and joins {name_of(held.view)}.",)
    return Verdict("exit-hang", 0.85, words), held


def runs_uvicorn(scene: Scene) -> bool:
    """Whether it is a server that serves in an event loop alone, and no loop is left."""
    return scene.evidence.process.server in ("uvicorn", "hypercorn", "daphne")


def serves(scene: Scene) -> bool:
    """Whether a server's loop still runs, be it in a thread while the main thread waits for it."""
    running = any(package(frame) in ("uvicorn", "hypercorn") for view in scene.loop for frame in view.thread.frames)
    return running and scene.evidence.process.listens is not False


def holder(scene: Scene) -> Wait | None:
    """The thread that an exit waits for: the default executor's, then a pool's, one with an application frame first."""
    busy = [v for v in scene.last if v.role in ("worker", "other") and not v.idle and v.section]
    best = max(busy, key=lambda v: (is_default(v), v.role == "worker", v.frame is not None), default=None)
    return wait(scene, best) if best is not None and best.frame is not None else None


def pool_full(scene: Scene) -> Answer:
    """The loop is fine, and no thread is left for synchronous work."""
    return full(scene) or backed_up(scene) or lent_out(scene) or unsure(scene) if scene.loop else None


def told_to_stop(scene: Scene) -> Answer:
    """A server that no longer listens, though its loop runs: it waits for connections, or for a last call."""
    running = any(package(frame) in SERVERS for view in scene.loop for frame in view.thread.frames)
    if not running or scene.evidence.process.listens is not False:
        return None
    words = ["It accepts no connections any more, and its event loop is idle: it was told to stop, and waits for open "
             "connections, background tasks or a last call."]
    held = next((one for one in stuck_workers(scene) if one.frame is not None), None) or unfinished(scene)
    if held is not None:
        words.append(f"Still at work: {name_of(held.view)} in {held.frame}.")
    if scene.evidence.process.served:
        words.append("A client is still connected.")
    told = any(calls(frame, *STOPPING) for task in scene.evidence.later for frame in task.frames)
    words += ["The server's own task is in its shutdown."] if told else []
    if told or scene.evidence.process.served:
        return Verdict("exit-hang", 0.92 if told else 0.9, tuple(words)), held
    return Verdict("exit-hang", 0.6, tuple(words), ("A server that has not begun to listen looks alike.",)), held


def unfinished(scene: Scene) -> Wait | None:
    """The coroutine of the application's that a stopping server waits for: one that serves a request, and waits still."""
    seen = waiting(scene)
    tasks = [task for task in seen.tasks.values() if task.id in seen.served and own_code(task)]
    waits = [as_wait(scene, task) for task in tasks]
    return next((one for one in waits if one.frame is not None), None)


def fine(scene: Scene) -> Answer:
    """The loop is idle, or idle in between."""
    total, idle = len(scene.loop), sum(view.idle for view in scene.loop)
    if not idle:
        return None
    words = [f"The event loop was idle in {idle} of {total} samples." if total > 1 else "The event loop is idle."]
    clients, doubts, sure = scene.evidence.clients, [], 0.9
    if total == 1:
        sure = 0.6
        doubts.append("One dump shows one moment.")
    seen, slow = suspects(scene), unanswered(scene)
    if seen:
        sure = min(sure, 0.6)
        doubts += [told_of(scene, seen[0]), *([f"{len(seen)} requests wait so."] if seen[1:] else [])]
    elif slow:
        sure = min(sure, 0.6)
        doubts.append(f"{slow[0].name} serves a request and waits in {slow[0].frames[0]} all the time, without a timeout: for a slow "
                      f"peer, or for ever.{f' {len(slow)} requests wait so.' if slow[1:] else ''}")
    elif not (scene.evidence.later or clients and not clients.open and not scene.evidence.unread) \
            or scene.evidence.unread and (clients is None or clients.open):
        sure = min(sure, 0.7)
        doubts.append("Coroutines that wait for something that never comes cannot be seen in stacks.")
    doubts += [f"What its coroutines wait for is not known: {scene.evidence.unread}."] if scene.evidence.unread else []
    locked = [one for one in stuck_workers(scene) if one.motion.samples > 1 and stands(one) and not is_timed(one)
              and wanted(one, scene.evidence.sources)]
    if locked:
        words.append(f"{len(locked)} pool thread{'s stand' if locked[1:] else ' stands'} before a lock all the time, in {locked[0].frame}.")
        return Verdict("inconclusive", 0.5, tuple(words), ("Whoever is inside of the lock may go on, or never leave it.",)), locked[0]
    behind = queued(scene)
    if behind is not None:
        words.append(f"{told_of(scene, behind[0])[:-1]}, in {as_wait(scene, behind[1]).frame or behind[1].frames[0]}.")
        return Verdict("inconclusive", 0.5, tuple(words), ("Whoever is inside of the lock may go on, or never leave it.",)), as_wait(scene, behind[0])
    brim = to_the_brim(scene)
    if brim is not None:
        doubts.append(f"All {brim.limit} threads of {brim.name} are in calls that stand still: one more call would wait.")
    at_work = [one for one in stuck_workers(scene) if one.frame is not None]
    if total > 1 and at_work and not scene.evidence.readings:
        sure = min(sure, 0.6)
        doubts.append(f"{len(at_work)} pool thread{'s stand' if at_work[1:] else ' stands'} in one place in every dump, in {at_work[0].frame}.")
    if idle < total or brim is not None:
        sure = min(sure, 0.7)
    greedy = [view for view in scene.last if view.role != "event-loop"
              and all(other.thread.owns_gil for other in scene.of(view))]
    if greedy:
        sure = min(sure, 0.6)
        doubts.append(f"{name_of(greedy[0])} holds the GIL whenever one looks: the loop may be idle because it cannot run.")
    return Verdict("healthy", sure, tuple(words), tuple(doubts)), None


def starting(scene: Scene) -> Answer:
    """No loop runs yet, and the main thread stands still in an import, or in a script that would serve later."""
    main = next((view for view in scene.last if view.role == "main"), None)
    if main is None or main.frame is None or scene.loop:
        return None
    one, frames = wait(scene, main), since_fork(main.thread.frames)
    loads = any(calls(frame, *LOADS) for frame in frames)
    if not (loads or imports_only(frames) or not scene.evidence.process.listens and before_serving(scene, frames)):
        return None
    if one.running or one.motion.often or one.motion.same < one.motion.samples:
        return None  # it makes progress
    words = ["The server is still importing the application." if loads else "No event loop runs yet: the program starts."]
    if one.motion.samples == 1:
        doubt = "One dump cannot tell a start that hangs from a slow one."
        return Verdict("startup-hang", 0.7 if loads else 0.6, tuple(words), (doubt,)), one
    if one.motion.woke == 0:
        words.append(f"Its main thread woke not once in the {one.motion.span:.1f} s before the first attach.")
    sure = 0.9 if one.motion.woke == 0 else 0.8
    return Verdict("startup-hang", sure if loads else sure - 0.05, tuple(words)), one


def imports_only(frames: tuple[Frame, ...]) -> bool:
    """Whether nothing but modules stands below the outermost import: no function has been called that might serve."""
    own = [frame for frame in reversed(frames) if not calls(frame, "<frozen runpy>", "runpy.py")]
    first = next((index for index, frame in enumerate(own) if calls(frame, *MACHINERY)), 0)
    return first > 0 and all(frame.name == "<module>" and is_application(frame) for frame in own[:first])


def before_serving(scene: Scene, frames: tuple[Frame, ...]) -> bool:
    """Whether a program without a loop is on its way to serve: it imports, or its source names a server."""
    if any(calls(frame, *MACHINERY) for frame in frames):
        return True
    last = frames[-1]
    lines = scene.evidence.sources.get(last.file, {}).values()
    return last.name == "<module>" and is_application(last) and any(SERVES.search(line) for line in lines)


def unknown(scene: Scene) -> Answer:
    """Nothing above applies: there is no event loop to judge by."""
    last = scene.evidence.snapshots[-1]
    if is_supervisor(last):
        return supervisor()
    if is_child(last):
        words = ("It is a child process that multiprocessing started; it serves nothing itself.",)
        return Verdict("healthy", 0.7, words, ("Whether its work makes progress cannot be seen from here.",), True), None
    if scene.evidence.tasks and not any(view.section for view in scene.last):
        return tasks_alone(scene)
    words = ("No thread in this evidence runs an event loop." if scene.last else "No thread of it runs any Python code.",)
    return Verdict("inconclusive", 0.3, words, (), True), to_look_at(scene)


RULES = (stopped, orphaned, supervising, exiting, deadlock, starved, loop_held, starting, lifespan_waits, pool_full, told_to_stop, tasks_waiting,
         awaited_in_vain, held_before, fine, synchronous, unknown)
