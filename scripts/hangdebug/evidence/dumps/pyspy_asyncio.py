"""py-spy-asyncio's text: py-spy's, and the tasks of `py-spy-asyncio dump --asyncio` below the threads.

Asyncio Tasks (3)
Task 0x7f70ab7790d0 "save-1" (pending)
    Lock.acquire (asyncio/locks.py:110)
    Store.save (tasks_app.py:6)
"""

from __future__ import annotations

import re
from typing import Iterable

from hangdebug.evidence.dumps import grammar as stacks
from hangdebug.evidence.dumps import pyspy_text
from hangdebug.evidence.dumps.grammar import Grammar, Head
from hangdebug.evidence.model import Snapshot

TASK = re.compile(
    r"^\W{0,20}Task 0x[0-9a-fA-F]{1,16}(?: \"(?P<name>[^\"\n]{0,300})\")?"
    r"(?: \((?P<state>[\w ,+-]{1,60})\))?"
)
SECTION = re.compile(r"^\W{0,20}Asyncio Tasks \((?P<count>\d{1,9})\)")


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a process, with its tasks; none for a text without a section of tasks."""
    kept = list(lines)
    if not any("Asyncio Tasks (" in line or "Task 0x" in line for line in kept):
        return ()
    return stacks.read(kept, GRAMMAR)


def head(line: str) -> Head | None:
    found = TASK.match(line[:1000]) if "Task 0x" in line else None
    if found:
        return Head("task", found["name"] or "", state=found["state"] or "")
    if "Asyncio Tasks (" in line and SECTION.match(line):
        return Head("section")
    return pyspy_text.head(line)


GRAMMAR = Grammar("py-spy-asyncio text", head, pyspy_text.frames)
