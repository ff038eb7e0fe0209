"""The event loop's thread sits in a synchronous wait: no other request is served until that ends."""

from __future__ import annotations

from hangdebug.answer.certainty import LIKELY, ONE_SIDED, PROVED
from hangdebug.answer.model import Rule, StateEntry, Verdict
from hangdebug.answer.stuck_loop import verdict_of
from hangdebug.answer.words import blocked_summary, line_of, place_of
from hangdebug.causes.model import Cause
from hangdebug.scene.lifecycle import stage_of
from hangdebug.scene.loop import gil_kept
from hangdebug.scene.scene import Scene
from hangdebug.scene.tasks import LONGEST_NORMAL, longest_step, stated, stated_place
from hangdebug.scene.waits import name_of, wait

OVER = "Whether it is still held, and what by, the line alone does not show."
GIL_WORDS = "The event loop's thread wakes all the time to ask for the GIL, and does not get it."
LOGGED = (
    "The log names the coroutine; the line is where it stood after the step, and not what held the loop.",
    "It may have waited or computed, and it is over: the log cannot say.",
)


def loop_waits(scene: Scene) -> Verdict | str:
    """Its thread waits, in one place or inside of one handler, as far as all samples show."""
    return verdict_of(scene, "loop-blocked", "waits")


def gil_kept_asleep(scene: Scene) -> Verdict | str:
    """Another thread sleeps in C code that does not release the GIL, and the loop's thread cannot run."""
    keeper = gil_kept(scene)
    if keeper is None:
        return "No other thread keeps the GIL while the loop's thread asks for it."
    if keeper.running:
        return f"{name_of(keeper.view)} keeps the GIL, and computes."
    words = f"{name_of(keeper.view)} owns the GIL in all {keeper.motion.samples} samples, and stands in one line."
    return Verdict("loop-blocked", PROVED, (words, GIL_WORDS), wait=keeper)


def logged_step(scene: Scene) -> Verdict | str:
    """asyncio's debug log says that one step of a coroutine held the loop, and nothing else is known."""
    step = longest_step(scene)
    if step is None:
        return "No log of slow steps is the only evidence."
    if step.seconds < LONGEST_NORMAL:
        return f"The longest step took {step.seconds:g} s: so short a step is no hang."
    return Verdict("loop-blocked", ONE_SIDED, step.words, LOGGED, step.wait)


def stated_in_words(scene: Scene) -> Verdict | str:
    """A line of the text says that a step held the loop, or that a worker whose loop stands still was killed."""
    said = stated(scene, "loop-held")
    if said is not None and (said.seconds is None or said.seconds >= LONGEST_NORMAL):
        words = f"A line of the text says that the event loop was held: {said.text}"
        return Verdict("loop-blocked", ONE_SIDED, (words,), (OVER,), stated_place(scene, said))
    killed = stated(scene, "killed")
    if killed is None or not scene.loop or scene.loop[-1].idle or stage_of(scene.loop[-1].thread.frames):
        return "No line of the text says that the loop was held, or that a worker with a loop was killed."
    words = f"It was killed because it did not answer: {killed.text}"
    return Verdict("loop-blocked", LIKELY, (words,), (), wait(scene, scene.loop[-1]))


def summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    wait, said = verdict.wait, stated(scene, "loop-held")
    if said is not None and (said.seconds is None or said.seconds >= LONGEST_NORMAL):
        where = f"{place_of(wait)}{line_of(wait)}"
        return f"The event loop was held{where}, as the text says; nobody else was served meanwhile."
    if wait is not None and wait.view.role != "event-loop" and not wait.coroutine:
        where, who = f"{place_of(wait)}{line_of(wait)}", name_of(wait.view)
        return f"{who} keeps the GIL{where}; the event loop's thread, like all others, waits for it."
    return blocked_summary(scene, verdict, cause)


STATE = StateEntry(
    "loop-blocked",
    rules=(
        Rule("stated-held", "does a log state what is wrong", stated_in_words),
        Rule("gil-kept-asleep", "does another thread keep the GIL", gil_kept_asleep),
        Rule("loop-waits", "does the loop's thread go on", loop_waits),
        Rule("logged-step", "does a log say that a step held the loop", logged_step),
    ),
    summary=summary,
    on_loop=True,
)
