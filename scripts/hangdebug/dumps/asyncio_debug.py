"""What asyncio's debug mode logs, and any `<Task ...>` that a program printed: one frame a task.

    Executing <Task pending name='Task-3' coro=<confirm() running at /srv/app.py:12> ...> took 12.345 seconds
"""

from __future__ import annotations

import re
from typing import Iterable

from hangdebug.dumps.stacks import python_of
from hangdebug.dumps.task_stacks import tasks
from hangdebug.model import Frame, Snapshot, Task, Thread

TOOK = re.compile(r"took (?P<seconds>\d{1,9}(?:\.\d{1,6})?) seconds")
HANDLE = re.compile(r"Executing <(?:Timer)?Handle (?:when=[\d.]{1,30} )?(?P<function>[\w.<>-]{1,300})\([^()\n]{0,300}\)"
                    r"(?: at (?P<file>[^>\n]{1,500}?):(?P<line>\d{1,9}))?")


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot with a Task for every task that is shown; its state tells how long it held the loop."""
    found = [task for line in lines if "<Task " in line or "Executing <" in line for task in shown(line[:20_000])]
    if not found:
        return ()
    stacks = [Thread(task.frames) for task in found]
    return (Snapshot((), None, "", python_of(stacks), "asyncio debug", (), tuple(dict.fromkeys(found))),)


def shown(line: str) -> list[Task]:
    took = TOOK.search(line) if "Executing <" in line else None
    state = f"took {took['seconds']} seconds" if took else ""
    found = [Task(one.name, one.frames, one.waits_on, state or one.state, one.coroutine)
             for one in tasks(line) if one.frames]
    handle = HANDLE.search(line) if took and not found else None
    if handle and handle["file"]:
        frame = Frame(handle["function"], handle["file"], int(handle["line"]) or None)
        found.append(Task(handle["function"], (frame,), "", state, handle["function"]))
    return found
