"""The kernel stopped the process, by SIGSTOP, for a debugger, or with its group: it runs no code until continued."""

from __future__ import annotations

from hangdebug.answer.certainty import LIKELY, PROVED
from hangdebug.answer.model import Rule, StateEntry, Verdict
from hangdebug.causes.model import Cause
from hangdebug.scene.scene import Scene
from hangdebug.scene.tasks import stated

WORDS = {
    "stopped": "All of its threads are in state T: it was stopped by a signal or is held by a debugger.",
    "frozen": "The kernel holds all of its threads in the freezer, as `docker pause` or a control group asks it to.",
}


def by_the_kernel(scene: Scene) -> Verdict | str:
    """Every thread was in state T, or frozen with its control group, before anybody attached."""
    reading = scene.evidence.readings[-1] if scene.evidence.readings else None
    if reading is None or not reading.waits:
        return "The kernel was not asked."
    if not reading.held:
        return "The kernel has not stopped it."
    return Verdict("stopped", PROVED, (WORDS[reading.held],))


def stated_in_words(scene: Scene) -> Verdict | str:
    """The text holds the kernel's word on the process: it is in state T."""
    said = stated(scene, "stopped")
    if said is None:
        return "No line of the text says that the kernel stopped it."
    return Verdict("stopped", LIKELY, (f"A line of the text says so: {said.text}",))


def summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    if WORDS["frozen"] in verdict.evidence:
        return (
            "The process is frozen with its group: to thaw that (`docker unpause`) lets it go on, and no signal does."
        )
    return "The kernel has stopped the process; `kill -CONT PID` lets it go on, if nobody debugs it."


STATE = StateEntry(
    "stopped",
    rules=(
        Rule("stopped-by-the-kernel", "did the kernel stop it", by_the_kernel),
        Rule("stated-stopped", "did the kernel stop it", stated_in_words),
    ),
    summary=summary,
    repair=None,
    names_cause=False,
)
