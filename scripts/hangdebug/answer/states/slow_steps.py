"""asyncio's debug mode says which task held the loop, and for how long: a log, and no dump of a moment.

    Executing <Task pending name='Task-3' coro=<confirm() running at /srv/app.py:12> ...> took 12.345 seconds

The line that it prints is where the task waits now, after the long step, or where its coroutine is defined.
"""

from __future__ import annotations

import re
from dataclasses import replace

from hangdebug.answer.model import Verdict
from hangdebug.evidence.model import Task
from hangdebug.scene.scene import Scene
from hangdebug.scene.tasks import as_wait
from hangdebug.scene.waits import Wait

TOOK = re.compile(r"^took (\d+(?:\.\d+)?) seconds$")
LONG = 1.0  # seconds: asyncio tells of every step over 0.1
DOUBT = (
    "The log names the coroutine; the line is where it stood after the step, and not what held the loop.",
    "It may have waited or computed, and it is over: the log cannot tell.",
)


def held_before(scene: Scene) -> tuple[Verdict, Wait] | None:
    """The task whose step held the loop longest, where nothing but such a log is known."""
    steps = [(seconds(task), task) for task in scene.evidence.tasks if seconds(task) is not None]
    if scene.last or not steps:
        return None
    longest, task = max(steps, key=lambda step: step[0])
    held = as_wait(scene, task)
    inner = () if held.frame is None else (held.frame,)
    held = replace(held, view=replace(held.view, section=inner, inner=()), text=None, called=frozenset(), entered=None)
    words = [f"A step of {held.frame or task.coroutine or task.name} held the event loop for {longest:g} s."]
    if len(steps) > 1:
        words.append(f"The log tells of {len(steps)} such steps.")
    if longest < LONG:
        return Verdict("inconclusive", 0.5, tuple(words), ("So short a step is no hang.", *DOUBT)), held
    return Verdict("loop-blocked", 0.75, tuple(words), DOUBT), held


def seconds(task: Task) -> float | None:
    found = TOOK.match(task.state)
    return float(found[1]) if found else None
