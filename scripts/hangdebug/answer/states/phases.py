"""A server's start and end: an import that stands still, a lifespan that awaits for ever, an interpreter on its way out."""

from __future__ import annotations

import re
from typing import Optional, Tuple

from hangdebug.answer.model import Verdict
from hangdebug.answer.states.held import LISTENERS, LOADS, STOPS, lifespan_state
from hangdebug.answer.states.held import STARTS as BEGINS
from hangdebug.answer.states.workers import expects, parked
from hangdebug.causes.default_executor import is_default, joined
from hangdebug.causes.import_lock import MACHINERY
from hangdebug.causes.interpreter_exit import JOINS
from hangdebug.evidence.frames import calls, is_application, package
from hangdebug.evidence.kernel import ends_by_itself
from hangdebug.evidence.libraries import SERVERS
from hangdebug.evidence.model import Frame, Task
from hangdebug.evidence.roles import is_child, since_fork
from hangdebug.scene.graph import JOIN, stands
from hangdebug.scene.pools import hands_over
from hangdebug.scene.scene import Scene, View, not_cut, whole
from hangdebug.scene.tasks import as_wait, own_code, waiting
from hangdebug.scene.waits import Wait, name_of, stuck_workers, wait

Answer = Optional[Tuple[Verdict, Optional[Wait]]]

RUNS = (
    "uvicorn/lifespan/on.py:main",
    "hypercorn/asyncio/lifespan.py:handle_lifespan",
    "starlette/routing.py:lifespan",
    LISTENERS,
    *BEGINS,
    *STOPS,
)
# How a server waits for its application to be through, whatever the application is made with.
STARTS = ("uvicorn/lifespan/on.py:startup", "hypercorn/asyncio/lifespan.py:wait_for_startup")
ENDS = ("uvicorn/lifespan/on.py:shutdown", "hypercorn/asyncio/lifespan.py:wait_for_shutdown")
SERVES = re.compile(r"\b(?:uvicorn|hypercorn|granian|gunicorn|fastapi|starlette|FastAPI|Starlette)\b")
STOPPING = ("uvicorn/server.py:shutdown",)
MAIN_ENDED = (
    "threading.py:_shutdown",
    "concurrent/futures/thread.py:_python_exit",
    "concurrent/futures/process.py:_python_exit",
)
AT_EXIT = "weakref.py:_exitfunc"  # an atexit hook of the standard library
RUNNER_END = ("asyncio/runners.py:close", "asyncio/runners.py:__exit__", "asyncio/runners.py:_cancel_all_tasks")
WORDS = {
    "startup-hang": "The server has not begun to serve: it waits for the first part of its lifespan.",
    "exit-hang": "The server was told to stop, and waits for the last part of its lifespan.",
}


def lifespan_waits(scene: Scene) -> Answer:
    """None where no lifespan stands in its start or end in both readings of the tasks."""
    task = standing(scene)
    if task is None or not scene.loop or not any(view.idle for view in scene.loop):
        return None
    state = phase(scene, task)
    if state is None:
        return None
    words = (
        WORDS[state],
        f"{task.name} ({task.coroutine}) runs the lifespan, and waits for {task.awaits or task.waits_on}.",
    )
    stuck = waiting(scene).stuck
    if task.id in stuck and not task.timed:
        return Verdict(state, 0.93 if state == "exit-hang" else 0.88, words), working(scene, task) or as_wait(
            scene, task
        )
    doubt = "It waits for a while at a time: it may be slow, or try again and again."
    return Verdict(state, 0.75, words, (doubt,)), as_wait(scene, task)


def working(scene: Scene, task: Task) -> Wait | None:
    """The pool's thread that the lifespan waits for, where its stack shows what it does."""
    found = [one for one in stuck_workers(scene) if one.frame is not None] if hands_over(scene, task) else []
    return found[0] if len(found) == 1 else None


def standing(scene: Scene) -> Task | None:
    """The task of the lifespan, in the same line of the application's in both readings."""
    lines = {task.id: line(task) for task in scene.evidence.tasks}
    return next(
        (task for task in scene.evidence.later if line(task) is not None and lines.get(task.id) == line(task)), None
    )


def line(task: Task) -> tuple[str, int | None] | None:
    """Where the application's code awaits inside of a lifespan, None for any other task."""
    if not any(calls(frame, *RUNS) for frame in task.frames):
        return None
    return next(((frame.file, frame.line) for frame in task.frames if is_application(frame)), None)


def phase(scene: Scene, task: Task) -> str | None:
    others = [frame for one in scene.evidence.later for frame in one.frames]
    if any(calls(frame, *ENDS) for frame in others):
        return "exit-hang"
    if any(calls(frame, *STARTS) for frame in others):
        return "startup-hang"
    return lifespan_state((*task.frames, *scene.loop[-1].thread.frames))


def exiting(scene: Scene) -> Answer:
    """The interpreter, or asyncio's runner, is on its way out and waits."""
    joining = scene.shows(*JOINS)
    if joining is not None and not serves(scene):
        held = holder(scene)
        ended = any(calls(frame, *MAIN_ENDED) for frame in joining.thread.frames)
        if ended and not served_once(scene) and goes_on_by_itself(scene):
            return None  # a program whose main thread has done its part, and whose other threads work on
        words = (
            f"{name_of(joining)} is in {joining.thread.frames[0]}: the interpreter joins threads before it exits.",
        )
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
    return (
        bool(scene.evidence.process.server) or not scene.evidence.readings or any(SERVES.search(line) for line in lines)
    )


def goes_on_by_itself(scene: Scene) -> bool:
    """Whether no thread that is left is stuck for good: they run a loop, accept, wait for work or for a while, or move."""
    loops = [view for view in scene.last if view.role == "event-loop"]
    rest = [wait(scene, view) for view in scene.last if view.role in ("worker", "other") and not view.idle]
    if not (rest or loops) or not all(view.idle for view in loops):
        return False
    timed = [one for one in rest if one.kernel is not None and ends_by_itself(one.kernel)]
    return all(one in timed or parked(one) or expects(one.view) or not stands(one) for one in rest)


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
    if not whole(snapshot) and not (
        snapshot.format == "py-spy JSON" and not_cut(scene.evidence, main.thread.frames[-1])
    ):
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
    if not joins or held is None or bottom.name == "<module>" or calls(bottom, *JOIN):
        return None
    if scene.evidence.process.listens or is_child(scene.evidence.snapshots[-1]):
        return None  # a server written in C may call a library, and listen
    words = (
        f"{bottom} is called by the interpreter itself, as it calls atexit hooks when it ends; it joins a thread.",
    )
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


def told_to_stop(scene: Scene) -> Answer:
    """A server that no longer listens, though its loop runs: it waits for connections, or for a last call."""
    running = any(package(frame) in SERVERS for view in scene.loop for frame in view.thread.frames)
    if not running or scene.evidence.process.listens is not False:
        return None
    words = [
        "It accepts no connections any more, and its event loop is idle: it was told to stop, and waits for open "
        "connections, background tasks or a last call."
    ]
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
    words = [
        "The server is still importing the application." if loads else "No event loop runs yet: the program starts."
    ]
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
