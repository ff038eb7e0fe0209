"""asyncio's debug mode says which task held the loop, and for how long: a log, and no dump of a moment.

    Executing <Task pending name='Task-3' coro=<confirm() running at /srv/app.py:12> ...> took 12.345 seconds

The line that it prints is where the task waits now, after the long step, or where its coroutine is defined.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hangdebug.evidence.model import Task
from hangdebug.scene.scene import Scene
from hangdebug.scene.tasks import as_wait
from hangdebug.scene.waits import Wait

TOOK = re.compile(r"^took (\d+(?:\.\d+)?) seconds$")
LONGEST_NORMAL = 1.0  # seconds: asyncio reports every step over 0.1


@dataclass(frozen=True)
class LoggedStep:
    """The longest step that the log reports: its seconds, the words that say so, and where its coroutine stood."""

    seconds: float
    words: tuple[str, ...]
    wait: Wait


def longest_step(scene: Scene) -> LoggedStep | None:
    """None where threads are known as well, or no step is reported."""
    steps = [(seconds(task), task) for task in scene.evidence.tasks]
    timed = [(took, task) for took, task in steps if took is not None]
    if scene.last or not timed:
        return None
    longest, task = max(timed, key=lambda step: step[0])
    stood = as_wait(scene, task)
    inner = () if stood.frame is None else (stood.frame,)
    view = replace(stood.view, section=inner, inner=())
    stood = replace(stood, view=view, text=None, called=frozenset(), entered=None)
    words = [f"A step of {stood.frame or task.coroutine or task.name} held the event loop for {longest:g} s."]
    words += [f"The log reports {len(timed)} such steps."] if len(timed) > 1 else []
    return LoggedStep(longest, tuple(words), stood)


def seconds(task: Task) -> float | None:
    found = TOOK.match(task.state)
    return float(found[1]) if found else None
