"""The process was told to stop, or has done its work, and does not end.

It joins threads, waits for what is open, or has swallowed Ctrl-C.
"""

from __future__ import annotations

from hangdebug.answer.certainty import AGREED, EVEN, LIKELY, ONE_SIDED, OPEN, PROVED, SHOWN
from hangdebug.answer.model import Rule, StateEntry, Verdict
from hangdebug.answer.states.loop_blocked import loop_verdict
from hangdebug.answer.states.startup_hang import lifespan_verdict
from hangdebug.answer.words import line_of, place_of, times
from hangdebug.causes.default_executor import joining_thread
from hangdebug.causes.interpreter_exit import JOINS
from hangdebug.causes.model import Cause
from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, is_application, is_child, package
from hangdebug.evidence.kernel import ends_by_itself
from hangdebug.evidence.libraries import JOIN, SERVERS, SERVERS_IN_C
from hangdebug.evidence.model import Process, Snapshot, Task
from hangdebug.scene.loop import (
    LOOP_ALONE,
    is_a_server,
    still_serves,
    task_left,
    unfinished_request,
    waited_for,
    was_a_server,
    works_on,
)
from hangdebug.scene.requests import greenlets
from hangdebug.scene.scene import Scene, View, has_whole_stacks, is_uncut, not_cut
from hangdebug.scene.tasks import as_wait, runs_application, stated, task_waits
from hangdebug.scene.waits import kernel_words, name_of, stuck_workers, wait

LIFESPAN = "The server was told to stop, and waits for the last part of its lifespan."
MAIN_ENDED = (
    "threading.py:_shutdown",
    "concurrent/futures/thread.py:_python_exit",
    "concurrent/futures/process.py:_python_exit",
)
HOOKS = ("logging/__init__.py:shutdown", "logging/handlers.py:stop")  # the library's own, or what is registered for it
BOOTSTRAP = "threading.py:_bootstrap"
AT_EXIT = "weakref.py:_exitfunc"  # an atexit hook of the standard library
RUNNER_ENDS = (
    "asyncio/runners.py:close",
    "asyncio/runners.py:__exit__",
    "asyncio/runners.py:_cancel_all_tasks",
)
SHUTS_DOWN = ("uvicorn/server.py:shutdown",)
PYTHON = re.compile(r"^python[\d.]{0,8}$")
RUNNER, NUMBERED = "asyncio/runners.py:run", re.compile(r"^Task-(\d{1,9})$")
TAKES_BACK = ("asyncio/taskgroups.py", "asyncio/timeouts.py", "anyio/_backends/_asyncio.py:__aexit__")


def interpreter_joins(scene: Scene) -> Verdict | str:
    """The interpreter joins threads before it exits."""
    joining = scene.shows(*JOINS)
    if joining is None or still_serves(scene):
        return "The interpreter joins no threads." if joining is None else "A server's loop still runs."
    if done_and_working(scene):
        return timers_left(scene) or "The main thread has done its part, and the other threads work on."
    at_work = waited_for(scene)
    words = f"{name_of(joining)} is in {joining.thread.frames[0]}: the interpreter joins threads before it exits."
    doubts = () if at_work else ("The stack of the thread that it waits for is not in the evidence.",)
    return Verdict("exit-hang", PROVED if at_work else ONE_SIDED, (words,), doubts, at_work)


def timers_left(scene: Scene) -> Verdict | None:
    """Timers alone are left, which are no daemons: who sets them anew each time keeps a process from its end."""
    rest = [view for view in scene.last if view.role != "main"]
    if not rest or scene.evidence.process.listens or not all(is_timer(view) for view in rest):
        return None
    words = f"The main thread has ended, and the interpreter joins {name_of(rest[0])}, a timer that runs later."
    doubt = "A program that does all of its work in timers looks alike."
    return Verdict("exit-hang", EVEN, (words,), (doubt,), wait(scene, rest[0]))


def is_timer(view: View) -> bool:
    """Whether the thread's own run() waits, as threading.Timer's does; that of Thread calls the application."""
    frames = view.thread.frames
    pairs = zip(frames, frames[1:])
    return any(calls(inner, "threading.py:wait") and calls(outer, "threading.py:run") for inner, outer in pairs)


def done_and_working(scene: Scene) -> bool:
    """Whether it is a program whose main thread has done its part, and whose other threads work on."""
    joining = scene.shows(*JOINS)
    if joining is None or still_serves(scene):
        return False
    ended = any(calls(frame, *MAIN_ENDED) for frame in joining.thread.frames)
    return ended and not was_a_server(scene) and works_on(scene)


def default_executor_joined(scene: Scene) -> Verdict | str:
    """asyncio joins the loop's default executor, as it does when a program ends."""
    last = joining_thread(scene)
    if last is None or not scene.loop or not scene.loop[-1].idle or done_and_working(scene):
        return "Nobody joins the loop's default executor while the loop is idle."
    words = f"{name_of(last)} joins the loop's default executor, as asyncio does when a program ends."
    return Verdict("exit-hang", AGREED, (words,), wait=waited_for(scene))


def runner_ends(scene: Scene) -> Verdict | str:
    """asyncio's runner ends, and waits for the tasks that are left."""
    ending = scene.shows(*RUNNER_ENDS)
    if ending is None or not any(ending.thread == view.thread for view in scene.loop):
        return "asyncio's runner is not at its end."
    step = next(frame for frame in ending.thread.frames if calls(frame, *RUNNER_ENDS))
    words = f"{name_of(ending)} is in {step}: asyncio ends, and waits for what is left."
    return Verdict("exit-hang", LIKELY, (words,), wait=waited_for(scene) or task_left(scene))


def exit_hook(scene: Scene) -> Verdict | str:
    """An atexit hook: the main thread runs a function that no module, and no event loop, has called."""
    main = next((view for view in scene.last if view.role == "main"), None)
    if main is None or scene.loop or done_and_working(scene):
        if main is None:
            return "No main thread was seen."
        return "A thread runs an event loop." if scene.loop else "The other threads work on."
    snapshot, bottom = scene.evidence.snapshots[-1], main.thread.frames[-1]
    if main.frame is None:
        known = has_whole_stacks(snapshot) or (calls(bottom, *HOOKS) and is_followed(snapshot, main))
        return library_hook(scene, main) if known else "The stack may be cut."
    if not has_whole_stacks(snapshot) and not (snapshot.format == "py-spy JSON" and not_cut(scene.evidence, bottom)):
        return "The stack may be cut."
    if greenlets(scene):
        return "Greenlets run there, whose stacks begin anywhere."
    if is_child(snapshot) or not (is_application(bottom) or calls(bottom, AT_EXIT)):
        return "The outermost frame is no exit hook."
    if bottom.name == "<module>" or may_be_called_from_c(scene.evidence.process):
        return "A module, or a server written in C, has called the application."
    words = f"{bottom} is called by the interpreter itself, as it calls atexit hooks when it ends."
    return Verdict("exit-hang", LIKELY, (words,), wait=wait(scene, main))


def is_followed(snapshot: Snapshot, main: View) -> bool:
    """Whether the main thread's stack must be complete: another thread's stands whole below it in py-spy's text."""
    later = snapshot.threads[snapshot.threads.index(main.thread) + 1 :]
    below = any(one.frames and calls(one.frames[-1], BOOTSTRAP) for one in later)
    return below and is_uncut(snapshot)


def may_be_called_from_c(process: Process) -> bool:
    """Whether a server that is no Python program may have called what stands outermost: it serves still."""
    return bool(process.listens) and process.server not in LOOP_ALONE and not is_plain_python(process)


def is_plain_python(process: Process) -> bool:
    """Whether the interpreter's own program runs: its main thread runs a module, until that has ended."""
    program = process.command.partition(" ")[0].rpartition("/")[2]
    return bool(PYTHON.match(program)) and process.server not in SERVERS_IN_C


def library_hook(scene: Scene, main: View) -> Verdict | str:
    """An atexit hook that is a library's own, such as QueueListener.stop, and joins a thread."""
    bottom, at_work = main.thread.frames[-1], waited_for(scene)
    joins = any(calls(frame, *JOIN) for frame in main.thread.frames)
    if bottom.name.startswith("<module") or calls(bottom, *JOIN) or greenlets(scene):
        return "The main thread is in no library's exit hook."
    process = scene.evidence.process
    in_loop_alone = process.server in LOOP_ALONE  # what still listens then is no server's port
    still = process.listens and not in_loop_alone and not calls(bottom, *HOOKS)
    if still or may_be_called_from_c(process) or is_child(scene.evidence.snapshots[-1]):
        return "A server that still listens may have called the library."
    words = f"{bottom} is called by the interpreter itself, as it calls atexit hooks when it ends"
    level = LIKELY if has_whole_stacks(scene.evidence.snapshots[-1]) else OPEN
    if joins and at_work is not None:
        return Verdict("exit-hang", level, (f"{words}; it joins a thread.",), wait=at_work)
    one = wait(scene, main)
    if (process.listens is None and not in_loop_alone) or not was_a_server(scene) or not one.motion.in_place:
        if calls(bottom, *HOOKS) and one.motion.in_place:
            return Verdict("exit-hang", level, (f"{words}.",), wait=at_work or one)
        return "Whether it was a server, and has closed its port, is not known, or the main thread goes on."
    rest = [wait(scene, view) for view in scene.threads("other") if not view.idle and view.section]
    sender = next((each for each in rest if each.motion.in_place), None) if joins else None
    closed = "No event loop runs any more, and nothing is served: the process ends."
    return Verdict("exit-hang", LIKELY, (f"{words}.", closed), wait=sender or one)


def stopping_on_loop(scene: Scene) -> Verdict | str:
    """The loop's thread runs the end of the application's lifespan, and does not go on."""
    return loop_verdict(scene, "exit-hang", "waits", "stopping")


def lifespan(scene: Scene) -> Verdict | str:
    """The last part of the lifespan awaits something, and stands in the same line in both readings of the tasks."""
    return lifespan_verdict(scene, "exit-hang", "stopping", LIFESPAN)


def stopped_listening(scene: Scene) -> Verdict | str:
    """A server that no longer listens, though its loop runs: it waits for connections, or for a last call."""
    running = any(package(frame) in SERVERS for view in scene.loop for frame in view.thread.frames)
    if not running or scene.evidence.process.listens is not False:
        if not running:
            return "No server's loop runs."
        return "It still listens." if scene.evidence.process.listens else "Whether it listens is not known."
    words = [
        "It accepts no connections any more, and its event loop is idle: it was told to stop, and waits for open "
        "connections, background tasks or a last call."
    ]
    at_work = next((one for one in stuck_workers(scene) if one.frame is not None), None) or unfinished_request(scene)
    words += [f"Still at work: {name_of(at_work.view)} in {at_work.frame}."] if at_work is not None else []
    connected = bool(scene.evidence.process.served)
    words += ["A client is still connected."] if connected else []
    in_shutdown = any(calls(frame, *SHUTS_DOWN) for task in scene.evidence.later for frame in task.frames)
    words += ["The server's own task is in its shutdown."] if in_shutdown else []
    if in_shutdown or connected:
        return Verdict("exit-hang", SHOWN if in_shutdown else AGREED, tuple(words), wait=at_work)
    if not wakes_for_a_timer(scene):
        return "It listens nowhere, and whether it has begun to serve is not known."
    doubt = "A server that has not begun to listen looks alike."
    return Verdict("exit-hang", OPEN, tuple(words), (doubt,), at_work)


def wakes_for_a_timer(scene: Scene) -> bool:
    """Whether the loop polls for a while at a time: a server that stops looks again and again at what is left.

    One that has not begun waits for its lifespan, without a timer.
    """
    return any(map(ends_by_itself, kernel_words(scene, scene.loop[-1])))


def stated_in_words(scene: Scene) -> Verdict | str:
    """The server's own log says that it waits for what is open, and its loop is idle."""
    said = stated(scene, "stopping")
    if said is None or (scene.loop and not scene.loop[-1].idle):
        return "No line of the text says that it waits before it ends." if said is None else "Its loop is not idle."
    words = f"Its log says so: {said.text}"
    at_work = next((one for one in stuck_workers(scene) if one.frame is not None), None)
    return Verdict("exit-hang", ONE_SIDED, (words,), ("The log may go on below what was pasted.",), at_work)


def cancellation_swallowed(scene: Scene) -> Verdict | str:
    """A program whose main coroutine was cancelled, as asyncio.run() does at Ctrl-C, and still waits for the same."""
    runs = any(calls(frame, RUNNER) for view in scene.loop for frame in view.thread.frames)
    task = main_task(scene) if runs and len(scene.threads("event-loop")) == 1 else None
    if task is None or not task.cancels:
        return "No cancelled main task was seen."
    if task.id not in task_waits(scene).stuck or not runs_application(task):
        return "asyncio.run()'s own task goes on."
    if any(calls(frame, *TAKES_BACK) for frame in task.frames):
        return "A group or a timeout has cancelled it, and is not yet through."
    words = (
        f"{task.name} ({task.coroutine}), which asyncio.run() runs, was cancelled {times(task.cancels)}, as Ctrl-C "
        f"does: it has swallowed that, and waits for {task.awaits or task.waits_on} all the time."
    )
    doubt = "A library that cancels and does not take it back leaves the same trace."
    return Verdict("exit-hang", ONE_SIDED, (words,), (doubt,), as_wait(scene, task))


def main_task(scene: Scene) -> Task | None:
    """The first task of the loop: asyncio numbers them, and all others are made by it or by what it made."""
    numbered = [
        (int(found[1]), task) for task in scene.evidence.later for found in [NUMBERED.match(task.name)] if found
    ]
    return min(numbered, key=lambda one: one[0], default=(0, None))[1]


def summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    where = place_of(verdict.wait)
    waiter = "a coroutine" if verdict.wait is not None and verdict.wait.coroutine else "a thread"
    for_what = f"{waiter}{where}{line_of(verdict.wait)}"
    if verdict.wait is not None and not where and verdict.wait.view.section and not verdict.wait.coroutine:
        where = for_what = f"{name_of(verdict.wait.view)}, which stands in {verdict.wait.view.section[0]}"
    if not where:
        for_what = "open connections, or for work that does not end"
    if cause.id == "interpreter-exit" and not where:
        for_what = "a thread or a child process that does not end; what that one is in, the evidence does not show"
    if is_child(scene.evidence.snapshots[-1]) and cause.id == "interpreter-exit":
        return f"The child process has done its work, and before it ends it waits for {for_what}."
    return f"The process {'was told to stop' if told(scene) else 'is ending'} and waits for {for_what}."


def told(scene: Scene) -> bool:
    """Whether somebody told it to stop: no server ends by itself; a job does, and its end looks the same."""
    main = main_task(scene) if scene.shows(*RUNNER_ENDS) is None else None  # asyncio's end cancels what is left
    return is_a_server(scene) or stated(scene, "stopping") is not None or (main is not None and main.cancels > 0)


STATE = StateEntry(
    "exit-hang",
    rules=(
        Rule("stated-stopping", "does a log state what is wrong", stated_in_words),
        Rule("interpreter-joins", "does the interpreter end", interpreter_joins),
        Rule("default-executor-joined", "does the interpreter end", default_executor_joined),
        Rule("runner-ends", "does the interpreter end", runner_ends),
        Rule("exit-hook", "does the interpreter end", exit_hook),
        Rule("stopping-on-loop", "does the loop's thread go on", stopping_on_loop),
        Rule("lifespan-end", "does the lifespan go on", lifespan),
        Rule("stopped-listening", "was it told to stop", stopped_listening),
        Rule("cancellation-swallowed", "was it told to stop", cancellation_swallowed),
    ),
    summary=summary,
)
