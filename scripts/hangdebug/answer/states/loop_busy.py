"""The event loop's thread burns CPU in one handler: nothing is waited for, and no other request is served meanwhile."""

from __future__ import annotations

from hangdebug.answer.certainty import PROVED
from hangdebug.answer.model import Rule, StateEntry, Verdict
from hangdebug.answer.states.loop_blocked import GIL_WORDS, loop_verdict
from hangdebug.answer.states.loop_blocked import summary as blocked
from hangdebug.answer.words import line_of, place_of
from hangdebug.causes.model import Cause
from hangdebug.scene.loop import gil_kept
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import name_of


def loop_computes(scene: Scene) -> Verdict | str:
    """Its thread is on a CPU, in one place or inside of one handler, as far as all samples show."""
    return loop_verdict(scene, "loop-busy", "computes")


def gil_kept_computing(scene: Scene) -> Verdict | str:
    """Another thread computes in C code that does not release the GIL, and the loop's thread cannot run."""
    keeper = gil_kept(scene)
    if keeper is None:
        return "No other thread keeps the GIL while the loop's thread asks for it."
    if not keeper.running:
        return f"{name_of(keeper.view)} keeps the GIL, and does not compute."
    words = f"{name_of(keeper.view)} owns the GIL in all {keeper.motion.samples} samples, and stands in one line."
    return Verdict("loop-busy", PROVED, (words, GIL_WORDS), wait=keeper)


def summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    if verdict.wait is not None and verdict.wait.view.role != "event-loop":
        return blocked(scene, verdict, cause)
    where = f"{place_of(verdict.wait)}{line_of(verdict.wait)}"
    return f"The event loop's thread computes{where}; no other request is served meanwhile."


STATE = StateEntry(
    "loop-busy",
    rules=(
        Rule("gil-kept-computing", "does another thread keep the GIL", gil_kept_computing),
        Rule("loop-computes", "does the loop's thread go on", loop_computes),
    ),
    summary=summary,
    on_loop=True,
    follows=False,
)
