"""The states, one file each, found by their names in the vocabulary; and the order in which their rules are asked.

Questions are asked in the order of `Question`; the states that have a rule for a question, in the order of `State`. The
first rule that answers with a verdict decides.
"""

from __future__ import annotations

from importlib import import_module

from hangdebug.answer.model import Asked, Rule, StateEntry, Verdict
from hangdebug.evidence.vocabulary import QUESTIONS, STATES, State
from hangdebug.scene.scene import Scene


def entry(name: State) -> StateEntry:
    """What the state's own file says: deadlock.py for "deadlock", loop_busy.py for "loop-busy"."""
    found: StateEntry = import_module(f"{__name__}.{name.replace('-', '_')}").STATE
    return found


ENTRIES: dict[State, StateEntry] = {name: entry(name) for name in STATES}
RULES: tuple[tuple[StateEntry, Rule], ...] = tuple(
    (state, rule)
    for question in QUESTIONS
    for state in ENTRIES.values()
    for rule in state.rules
    if rule.question == question
)


def decide(scene: Scene) -> tuple[Verdict, tuple[Asked, ...]]:
    """The verdict of the first rule that has one, and what every rule that was asked until then saw."""
    asked: list[Asked] = []
    for state, rule in RULES:
        found = rule.ask(scene)
        if isinstance(found, Verdict):
            saw = " ".join(found.evidence) or (rule.ask.__doc__ or "").partition("\n")[0]
            return found, (*asked, Asked(rule.name, state.name, saw, True))
        asked.append(Asked(rule.name, state.name, found, False))
    raise AssertionError("the last rule always answers")
