"""asyncio's tasks as text: `Task.print_stack()`, and the `<Task ...>` that print, logs and debug mode show.

    Stack for <Task pending name='Task-3' coro=<drain() running at /srv/app.py:11>> (most recent call last):
      File "/srv/app.py", line 11, in drain
        return await self.queue.get()
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Iterator

from hangdebug.dumps.stacks import Head
from hangdebug.model import Frame

TASK = re.compile(
    r"<(?:[A-Z]\w{0,40}\.)?Task (?P<state>[\w ]{1,40}?)(?: name=(?P<quote>['\"])(?P<name>.{0,200}?)(?P=quote))? "
    r"coro=<(?P<coroutine>[\w.<>-]{1,300})\(\)"
    r"(?: (?:running at|running, defined at|done, defined at|suspended at) (?P<file>[^>\n]{1,500}?):(?P<line>\d{1,9}))?>"
)
WAITS = re.compile(r"[^>]{0,400}?wait_for=<(?P<what>[^<>]{1,200}?)(?: cb=| created at|>)")


def head(line: str) -> Head | None:
    """A line that begins the stack of a task."""
    if " for <" not in line[:200] or "most recent call" not in line:
        return None
    found = next(tasks(line[:4000]), None)
    if found is None:
        return None
    order = "first" if "most recent call first" in line else "last"
    return replace(found, order=order)


def tasks(line: str) -> Iterator[Head]:
    """A Head for every task that the line shows, with the one frame that it names."""
    for found in TASK.finditer(line):
        waits = WAITS.match(line, found.end())
        place = [Frame(found["coroutine"], found["file"], int(found["line"]) or None)] if found["file"] else []
        yield Head("task", found["name"] or found["coroutine"], state=found["state"], coroutine=found["coroutine"],
                   waits_on=waits["what"].strip() if waits else "", frames=tuple(place))
