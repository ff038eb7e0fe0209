"""The event loop's thread sits in a synchronous wait: no other request is served until that ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from hangdebug.answer.certainty import AGREED, BRIEF, EVEN, FAINT, LIKELY, MOMENT, ONE_SIDED, OPEN, PROVED, SHOWN
from hangdebug.answer.model import Level, Rule, StateEntry, Verdict
from hangdebug.answer.words import blocked_summary, line_of, place_of, times, wake_words
from hangdebug.causes import cause_of
from hangdebug.causes.model import Cause
from hangdebug.evidence.frames import package
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.vocabulary import State
from hangdebug.scene.graph import RESULT, nobody_gives_result
from hangdebug.scene.loop import (
    LoopMotion,
    Stage,
    commonest_leaf,
    deepest_shared_frame,
    gil_kept,
    gil_owner,
    joins_a_thread,
    loop_motion,
    runs_without_a_frame,
    same_piece_of_work,
    stage_of,
    waits_for_shared_lock,
)
from hangdebug.scene.scene import Scene, once
from hangdebug.scene.tasks import LONGEST_NORMAL, longest_step, stated, stated_place
from hangdebug.scene.waits import Wait, name_of, seen_at, wait

OVER = "Whether it is still held, and what by, the line alone does not show."
GIL_WORDS = "The event loop's thread wakes all the time to ask for the GIL, and does not get it."
LOGGED = (
    "The log names the coroutine; the line is where it stood after the step, and not what held the loop.",
    "It may have waited or computed, and it is over: the log cannot say.",
)


def loop_waits(scene: Scene) -> Verdict | str:
    """Its thread waits, in one place or inside of one handler, as far as all samples show."""
    return loop_verdict(scene, "loop-blocked", "waits")


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


# -- how sure it is that the event loop's thread does not go on ----------------------------------------

Outcome = Literal["waits", "computes", "moves-on", "unclear"]

# Innermost library calls that wait, whatever the library: what a stack shows of a wait without the kernel.
CALLS_THAT_WAIT = frozenset(
    """wait wait_for _wait_for_tstate_lock join acquire sleep _sleep readinto read recv recv_into recvfrom
    select poll get result _try_wait create_connection wait_for_read wait_for_write do_handshake connect accept send
    sendall flush communicate _wait _communicate readline""".split()
)
SAME_LOOP = ("nest_asyncio", "nest_asyncio2")
AT_LIMIT = "A loop that is hardly ever idle is at its limit."
STAYS_UNSEEN = "One dump shows one moment: it cannot show that the thread stays there."


@dataclass(frozen=True)
class Weighed:
    """What the loop's thread does, how sure that is, and the wait that shows it (None where it goes on).

    `stage` is set where it runs the start or the end of the application.
    """

    outcome: Outcome
    level: Level
    evidence: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    wait: Wait | None = None
    stage: Stage | None = None


def loop_verdict(scene: Scene, state: State, outcome: Outcome, stage: Stage | None = None) -> Verdict | str:
    """The verdict of the state that stands for this outcome in this stage; else what was seen instead."""
    found = weighed_loop(scene)
    if found is None:
        idle = sum(view.idle for view in scene.loop)
        return (
            f"The event loop was idle in {idle} of {len(scene.loop)} samples." if scene.loop else "No event loop runs."
        )
    if (found.outcome, found.stage) != (outcome, stage):
        return f"The event loop's thread: {found.outcome}{f', {found.stage}' if found.stage else ''}."
    return Verdict(state, found.level, found.evidence, found.doubts, found.wait)


@once
def weighed_loop(scene: Scene) -> Weighed | None:
    """None where the loop is idle, or idle in between without a stall."""
    seen = loop_motion(scene)
    if seen is None:
        return None
    if seen.pattern == "released":
        return released(scene, seen.wait)
    if seen.pattern == "stalling":
        return stalling(seen.wait)
    if seen.pattern == "single":
        return single(scene, seen.wait)
    return one_place(scene, seen) if seen.pattern == "one-place" else moving(scene, seen)


def one_place(scene: Scene, seen: LoopMotion) -> Weighed:
    """The same place in every sample: one long wait, or one of many short ones that follow each other."""
    one, stage = seen.wait, stage_of(seen.wait.view.thread.frames)
    agree = f"All {one.motion.samples} samples show the event loop's thread in the same place."
    agree += compiled_words(scene, one)
    if one.running or one.motion.often:
        inside = deepest_shared_frame(scene)
        if inside is not None and one.frame is not None and seen_at(scene, one, inside) != one:
            return moving(scene, replace(seen, busy=bool(one.running)))
        return by_profile(scene, seen, agree, "computes" if one.running else "waits", None if one.running else stage)
    if waits_for_shared_lock(one) and stage is None:
        doubt = "Whether another process is left that could release what it waits for is not known."
        return Weighed("waits", ONE_SIDED, (agree,), (doubt,), one)
    if one.motion.woke is None:
        return Weighed("waits", AGREED, (agree,), (), one, stage)
    level = PROVED if one.motion.woke == 0 else LIKELY
    return Weighed("waits", level, (agree, *wake_words(one)), (), one, stage)


def compiled_words(scene: Scene, one: Wait) -> str:
    """That what it stands in is no Python code, where its stack ends in the loop's machinery."""
    thread, below = one.view.thread, runs_without_a_frame(one.view.thread)
    compiled = scene.evidence.compiled.get(thread.os_id or -1, ())
    if below:
        return f" Python's own stack ends in {thread.frames[0]}: compiled code runs below it."
    if compiled and thread.frames[0] == compiled[0]:
        return f" Compiled code runs there, {compiled[0]}: a stack of Python's alone does not show it."
    return ""


def moving(scene: Scene, seen: LoopMotion) -> Weighed:
    """Never idle, and not in one line: one handler that computes or polls, or one piece of work after another."""
    inside, total = deepest_shared_frame(scene), seen.wait.motion.samples
    if inside is None:
        words = f"The event loop was at work in each of {total} samples, in different places: it moves on."
        return Weighed("moves-on", MOMENT, (words,), (AT_LIMIT,))
    words = f"All {total} samples show the event loop's thread inside of {inside.function}, in different lines."
    leaf = commonest_leaf(scene)
    if leaf is not None and leaf[0].function != inside.function:
        words += f" The innermost function is {leaf[0]} in {leaf[1]} of {leaf[2]} samples."
    if seen.wait.frame is not None:
        seen = replace(seen, wait=seen_at(scene, seen.wait, inside))
    return by_profile(scene, seen, words, "computes" if seen.busy else "waits", None)


def by_profile(scene: Scene, seen: LoopMotion, words: str, outcome: Outcome, stage: Stage | None) -> Weighed:
    """Whether it stays inside of one handler. A loaded server looks alike, until it is seen between two requests."""
    one, handler = seen.wait, seen.handler
    if handler is None:
        return Weighed("moves-on", OPEN, (words, "It is in the server's own code."), (AT_LIMIT,))
    if seen.outside is None:
        doubt = "One long piece of work and many short ones look alike in so few samples."
        return Weighed(outcome, BRIEF, (words,), (doubt,), one, stage)
    away, total = seen.outside
    sampled = f"Sampled {total} times in a second, it was outside of {handler.function} {times(away)}."
    same = same_piece_of_work(scene)
    if away * 100 <= total and same is not False:
        level = SHOWN if away == 0 and same else LIKELY if away == 0 else ONE_SIDED
        return Weighed(outcome, level, (words, sampled), (), one, stage)
    if same is False:
        sampled += " The tasks that ran it before have ended: others have taken their turn."
    doubt = f"Most of its time goes into {one.frame or handler}, and each such moment holds up all requests."
    goes_on = "It moves on from one piece of work to the next."
    return Weighed("moves-on", OPEN, (sampled, goes_on), (AT_LIMIT, doubt))


def released(scene: Scene, one: Wait) -> Weighed:
    """Blocked in a write until the first attach, and on its way since: judged by what was seen before, as it stood."""
    looks = len(scene.evidence.readings)
    before = f"In all {looks} readings before the first attach the kernel had it in {one.kernel}, and it did not wake."
    after = (
        "The first sample shows where; since then it moves: the look itself has ended this wait, and it will come back."
    )
    return Weighed("waits", LIKELY, (before, after), (), one)


def stalling(one: Wait) -> Weighed:
    """Idle in some samples, waiting in one place in others that follow each other: it comes and goes."""
    words = (
        f"{one.motion.same} of {one.motion.samples} samples show the event loop's thread waiting in {one.frame}; in "
        f"{one.motion.idle} it was idle: it stalls again and again.",
    )
    return Weighed("waits", MOMENT, words, ("It moves on between the stalls, so short requests get through.",), one)


def single(scene: Scene, one: Wait) -> Weighed:
    """One dump only: what a call is shows that it waits, not for how long."""
    stage = stage_of(one.view.thread.frames)
    if one.frame is None and one.running is False and cause_of(scene, one)[0].id == "logging":
        doubt = "Every line of the log passes there, for a moment."
        return Weighed("waits", EVEN, (), (STAYS_UNSEEN, doubt), one, stage)
    if one.frame is None and not joins_a_thread(one):
        words = f"The event loop's thread is in {one.view.section[0]}, with no frame of the application."
        return Weighed("unclear", FAINT, (words,), (STAYS_UNSEEN,), one)
    keeper = gil_owner(scene, one)
    if keeper is not None:
        who = name_of(keeper.view)
        words = f"The event loop's thread stands in {one.frame}, and {who} has the GIL, in {keeper.frame}."
        return Weighed(
            "unclear", FAINT, (words,), (STAYS_UNSEEN, "If it does not release the GIL, the loop cannot run."), keeper
        )
    if one.inside("threading.py:start"):
        words = f"The event loop's thread stands in {one.frame}, and starts a thread there: that takes a moment."
        others = [view for view in scene.last if view.role != "event-loop" and view.frame == view.thread.frames[0]]
        at_work = wait(scene, others[0]) if len(others) == 1 else one  # it may be what lets no other thread run
        return Weighed("unclear", FAINT, (words,), (STAYS_UNSEEN,), at_work)
    if one.inside_package(*SAME_LOOP) and package(one.view.inner[0]) in (*SAME_LOOP, "asyncio", "selectors"):
        words = f"{one.outermost} may run the server's own loop again: then it serves all the time."
        return Weighed("unclear", EVEN, (words,), (STAYS_UNSEEN,), one)
    calls_a_library = bool(one.view.inner)
    if calls_a_library and not one.running and (one.running is False or one.view.inner[0].name in CALLS_THAT_WAIT):
        nobody = one.starts_with(*RESULT) and nobody_gives_result(scene)  # who should complete the future is not shown
        level = LIKELY if joins_a_thread(one) and not nobody else MOMENT
        return Weighed("waits", level, (), (STAYS_UNSEEN,), one, stage)
    if one.running is None and calls_a_library and cause_of(scene, one)[0].frames_wait:
        doubt = "The dump does not say whether the call waits or computes."
        return Weighed("waits", EVEN, (), (STAYS_UNSEEN, doubt), one, stage)
    if one.running or (one.running is None and calls_a_library):
        words = f"The event loop's thread is at work in {one.frame}."
        doubt = "A healthy server is caught at work now and then."
        return Weighed("computes", EVEN if one.running else FAINT, (words,), (STAYS_UNSEEN, doubt), one)
    if one.running is None:
        doubt = "The dump does not say whether this line waits in a call, or computes."
        level = MOMENT if cause_of(scene, one)[1].kinds else EVEN
        return Weighed("waits", level, (), (STAYS_UNSEEN, doubt), one, stage)
    words = "The thread sleeps in a C call that this line makes; such a call has no frame of its own."
    return Weighed("waits", MOMENT, (words,), (STAYS_UNSEEN,), one, stage)


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
