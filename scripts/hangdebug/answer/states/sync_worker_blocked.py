"""No event loop runs here: a synchronous server's workers, a job or a script are stuck in a call."""

from __future__ import annotations

from hangdebug.answer import worker_wait
from hangdebug.answer.model import Rule, StateEntry, Verdict
from hangdebug.answer.words import LOOP, LOOPS_THREAD, WORKER, capital, line_of, place_of
from hangdebug.causes.model import Cause
from hangdebug.scene.scene import Scene


def stuck(scene: Scene) -> Verdict | str:
    """Nobody is left to serve the next request, or a script's thread waits for an answer that it is owed."""
    return worker_wait.verdict_of(scene, "sync-worker-blocked", "stuck")


def summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    kernel = (verdict.wait.kernel if verdict.wait is not None else None) or "in a call"
    what = cause.title.replace(LOOPS_THREAD, WORKER).replace(LOOP, WORKER)
    what = what if cause.id != "other" else f"{WORKER} waits ({kernel})"
    what = what if WORKER in what else f"{WORKER} is stuck: {what}"
    return f"{capital(what)}{place_of(verdict.wait)}{line_of(verdict.wait)}; it serves nothing else meanwhile."


STATE = StateEntry(
    "sync-worker-blocked",
    rules=(Rule("workers-stuck", "do synchronous workers go on", stuck),),
    summary=summary,
    repair="pattern",
    exonerates_threads=False,
)
