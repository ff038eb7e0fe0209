"""No event loop runs here: a synchronous server's workers, a job or a script are stuck in a call."""

from __future__ import annotations

from hangdebug.answer import worker_wait
from hangdebug.answer.certainty import LIKELY
from hangdebug.answer.model import Rule, StateEntry, Verdict
from hangdebug.answer.words import LOOP, LOOPS_THREAD, WORKER, capital, line_of, place_of
from hangdebug.causes.model import Cause
from hangdebug.evidence.frames import calls
from hangdebug.scene.lifecycle import LOADS, stage_of
from hangdebug.scene.scene import Scene, View
from hangdebug.scene.tasks import stated
from hangdebug.scene.waits import wait


def stuck(scene: Scene) -> Verdict | str:
    """Nobody is left to serve the next request, or a script's thread waits for an answer that it is owed."""
    return worker_wait.verdict_of(scene, "sync-worker-blocked", "stuck")


def stated_in_words(scene: Scene) -> Verdict | str:
    """The text says that a time-out ended a worker, a job or a test, and shows what it was in."""
    said = stated(scene, "killed", "test-timeout")
    if said is None or scene.loop:
        return "No time-out ended it." if said is None else "An event loop runs."
    shown = killed_thread(scene)
    if shown is None or loads_application(shown):
        return "No stack shows what was ended." if shown is None else "It was still being loaded."
    one = wait(scene, shown)
    words = f"A time-out ended it, for it did not come to an end: {said.text}"
    doubts = (
        () if one.frame is not None else ("No frame of the application is on the stack: it may not have been called.",)
    )
    return Verdict("sync-worker-blocked", LIKELY, (words,), doubts, one)


def killed_thread(scene: Scene) -> View | None:
    """The thread that the time-out ended: the main thread, or the only stack that is shown."""
    return next((view for view in scene.last if view.role == "main"), scene.last[0] if len(scene.last) == 1 else None)


def loads_application(view: View) -> bool:
    return stage_of(view.thread.frames) == "starting" or any(calls(frame, *LOADS) for frame in view.thread.frames)


def summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    kernel = (verdict.wait.kernel if verdict.wait is not None else None) or "in a call"
    what = cause.title.replace(LOOPS_THREAD, WORKER).replace(LOOP, WORKER)
    what = what if cause.id != "other" else f"{WORKER} waits ({kernel})"
    what = what if WORKER in what else f"{WORKER} is stuck: {what}"
    return f"{capital(what)}{place_of(verdict.wait)}{line_of(verdict.wait)}; it serves nothing else meanwhile."


STATE = StateEntry(
    "sync-worker-blocked",
    rules=(
        Rule("stated-killed", "does a log state what is wrong", stated_in_words),
        Rule("workers-stuck", "do synchronous workers go on", stuck),
    ),
    summary=summary,
    repair="pattern",
    exonerates_threads=False,
)
