"""The server has not begun to serve: it is stuck in an import, or in the first part of its lifespan."""

from __future__ import annotations

from hangdebug.answer.certainty import AGREED, EXCLUDED, LIKELY, MOMENT, ONE_SIDED, OPEN, PLAUSIBLE, SHOWN
from hangdebug.answer.model import Rule, StateEntry, Verdict
from hangdebug.answer.states.loop_blocked import loop_verdict
from hangdebug.answer.words import line_of, place_of, wake_words
from hangdebug.causes import cause_of
from hangdebug.causes.model import Cause
from hangdebug.evidence.frames import calls, is_application, since_fork
from hangdebug.evidence.libraries import IMPORTS
from hangdebug.evidence.model import Frame, Task
from hangdebug.evidence.vocabulary import State
from hangdebug.scene.loop import (
    A_SERVER,
    LOADS,
    Stage,
    runs_before_serving,
    serves_below,
    spins,
    stage_of_task,
    unmoved_lifespan,
)
from hangdebug.scene.pools import hands_to_pool
from hangdebug.scene.scene import Scene, View
from hangdebug.scene.tasks import as_wait, task_waits
from hangdebug.scene.waits import Wait, kernel_words, motion, stuck_workers, wait

LOOKS_AGAIN = ("futex", "clock_nanosleep", "nanosleep", "running", "restart_syscall")
LIFESPAN = "The server has not begun to serve: it waits for the first part of its lifespan."
IMPORT = "The server has not begun to serve: a module runs an event loop before that, and waits for it."


def loading_on_loop(scene: Scene) -> Verdict | str:
    """The loop's thread loads the application or runs the start of its lifespan, and does not go on."""
    return loop_verdict(scene, "startup-hang", "waits", "starting")


def importing(scene: Scene) -> Verdict | str:
    """No loop runs yet, and the main thread stands still in an import, or in a script that would serve later."""
    main = next((view for view in scene.last if view.role == "main"), None)
    if main is None or main.frame is None:
        return "No main thread is in the application's code."
    if scene.loop:
        return "An event loop runs already."
    one, frames = wait(scene, main), since_fork(main.thread.frames)
    loads = any(calls(frame, *LOADS) for frame in frames)
    if not (loads or imports_only(frames) or (not scene.evidence.process.listens and before_serving(scene, frames))):
        return "The main thread is not on its way to serve."
    polls = one.motion.in_place and one.motion.often and not one.running and looks_again(scene, main)
    if one.running or not one.motion.in_place or (one.motion.often and not polls):
        return "The start makes progress."
    words = "The server is still importing the application." if loads else "No event loop runs yet: the program starts."
    if polls:
        again = "It waits in one place, and wakes again and again to look whether what it waits for has come."
        if cause_of(scene, one)[0].id == "debugger":
            return Verdict("startup-hang", AGREED, (words, again), wait=one)
        doubt = "A start that waits for something slow looks alike."
        return Verdict("startup-hang", ONE_SIDED, (words, again), (doubt,), one)
    if one.motion.samples == 1:
        doubt = "One dump cannot tell a start that hangs from a slow one."
        return Verdict("startup-hang", MOMENT if loads else OPEN, (words,), (doubt,), one)
    if one.motion.woke == 0:
        return Verdict("startup-hang", AGREED if loads else LIKELY, (words, *wake_words(one)), wait=one)
    return Verdict("startup-hang", PLAUSIBLE if loads else ONE_SIDED, (words,), wait=one)


def looks_again(scene: Scene, main: View) -> bool:
    """Whether it sleeps, or waits for another thread, for a while at a time: no data come in that would be progress."""
    words = kernel_words(scene, main)
    computes = any(wait(scene, view).motion.computes for view in scene.last)
    return not computes and bool(words) and all(word.syscall in LOOKS_AGAIN for word in words)


def imports_only(frames: tuple[Frame, ...]) -> bool:
    """Whether nothing but modules stands below the outermost import: no function has been called that might serve."""
    own = [frame for frame in reversed(frames) if not calls(frame, "<frozen runpy>", "runpy.py")]
    first = next((index for index, frame in enumerate(own) if calls(frame, *IMPORTS)), 0)
    return first > 0 and all(frame.name == "<module>" and is_application(frame) for frame in own[:first])


def before_serving(scene: Scene, frames: tuple[Frame, ...]) -> bool:
    """Whether a program without a loop is on its way to serve: it imports, or its source names a server."""
    if any(calls(frame, *IMPORTS) for frame in frames):
        return True
    last = frames[-1]
    if last.name != "<module>" or not is_application(last):
        return False
    known = scene.evidence.sources.get(last.file, {})
    later = any(serves_below(scene, frame) for frame in frames if is_application(frame))
    return later or any(A_SERVER.search(line) for line in known.values())


def lifespan(scene: Scene) -> Verdict | str:
    """The first part of the lifespan awaits something, and stands in the same line in both readings of the tasks."""
    if runs_before_serving(scene):
        return lifespan_verdict(scene, "startup-hang", "starting", IMPORT, "is what it runs")
    return lifespan_verdict(scene, "startup-hang", "starting", LIFESPAN)


def summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    return f"The server has not started: its start waits{place_of(verdict.wait)}{line_of(verdict.wait)}."


# -- how sure it is that a lifespan does not go on, at either end --------------------------------------


def lifespan_verdict(
    scene: Scene, state: State, stage: Stage, words: str, does: str = "runs the lifespan"
) -> Verdict | str:
    """The state's verdict where the lifespan's task stands in that stage in both readings of the tasks."""
    task = unmoved_lifespan(scene)
    if task is None:
        return "No lifespan stands in one line in both readings of the tasks."
    spinning = spins(scene)
    if not scene.loop or (spinning is None and not any(view.idle for view in scene.loop)):
        return "The event loop is not idle."
    found = stage_of_task(scene, task)
    if found != stage:
        return f"The lifespan is {found or 'in no known stage'}."
    runs = f"{task.name} ({task.coroutine}) {does}, and waits for {task.awaits or task.waits_on}."
    if spinning is not None:
        level = SHOWN if stage == "stopping" else EXCLUDED
        return Verdict(state, level, (words, runs, spin_words(scene, spinning)), wait=as_wait(scene, task))
    if task.id in task_waits(scene).stuck and not task.timed:
        level = SHOWN if stage == "stopping" else EXCLUDED  # that it was told to stop was seen as well
        return Verdict(state, level, (words, runs), wait=pool_thread(scene, task) or as_wait(scene, task))
    doubt = "It waits for a while at a time: it may be slow, or try again and again."
    return Verdict(state, ONE_SIDED, (words, runs), (doubt,), as_wait(scene, task))


def spin_words(scene: Scene, where: Frame) -> str:
    """That the loop is not idle, and where its thread spends the time."""
    share = motion(scene, scene.loop[-1]).cpu or 0
    return f"The event loop is not idle: its thread uses {share:.0%} of a CPU, again and again in {where}."


def pool_thread(scene: Scene, task: Task) -> Wait | None:
    """The pool's thread that the lifespan waits for, where its stack shows what it does."""
    found = [one for one in stuck_workers(scene) if one.frame is not None] if hands_to_pool(scene, task) else []
    return found[0] if len(found) == 1 else None


STATE = StateEntry(
    "startup-hang",
    rules=(
        Rule("loading-on-loop", "does the loop's thread go on", loading_on_loop),
        Rule("importing", "does the program start", importing),
        Rule("lifespan-start", "does the lifespan go on", lifespan),
    ),
    summary=summary,
)
