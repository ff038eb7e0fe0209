"""asyncio's tasks as text: what its debug mode logs, any `<Task ...>` that a program printed, `Task.print_stack()`.

    Executing <Task pending name='Task-3' coro=<confirm() running at /srv/app.py:12> ...> took 12.345 seconds

    Stack for <Task pending name='Task-3' coro=<drain() running at /srv/app.py:11>> (most recent call last):
      File "/srv/app.py", line 11, in drain
        return await self.queue.get()

A line names one frame of its task. The stack that follows such a head is read by printouts.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Iterable, Iterator

from hangdebug.evidence.dumps.grammar import Head, python_of
from hangdebug.evidence.frames import UNKNOWN
from hangdebug.evidence.model import Frame, Snapshot, Task, Thread

TASK = re.compile(
    r"<(?:[A-Z]\w{0,40}\.)?Task (?P<state>[\w ]{1,40}?)(?: name=(?P<quote>['\"])(?P<name>.{0,200}?)(?P=quote))? "
    r"coro=<(?P<coroutine>[\w.<>-]{1,300})\(\)"
    r"(?: (?:running at|running, defined at|done, defined at|suspended at) "
    r"(?P<file>[^>\n]{1,500}?):(?P<line>\d{1,9}))?>"
)
WAITS = re.compile(r"[^>]{0,400}?wait_for=<(?P<what>[^<>]{1,200}?)(?: cb=| created at|>)")
TOOK = re.compile(r"took (?P<seconds>\d{1,9}(?:\.\d{1,6})?) ?s(?:econds?)?\b")
# The same line as people and log viewers shorten it: without the state, without the place.
SHORT = re.compile(
    r"Executing <Task(?:[ -](?P<name>Task-\d{1,9}|\d{1,9}))?(?: pending| finished| cancelled)?"
    r"(?: name=['\"](?P<named>[^'\"]{1,200})['\"])?\s+(?:coro=)?<?(?P<coroutine>[A-Za-z_][\w.<>]{0,300})\(\)"
)
HANDLE = re.compile(
    r"Executing <(?:Timer)?Handle (?:when=[\d.]{1,30} )?(?P<function>[\w.<>-]{1,300})\([^()\n]{0,300}\)"
    r"(?: at (?P<file>[^>\n]{1,500}?):(?P<line>\d{1,9}))?"
)


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot with a Task for every task that is shown; its state tells how long it held the loop."""
    found = [
        task for line in lines if "<Task " in line or "Executing <" in line for task in tasks_in_line(line[:20_000])
    ]
    if not found:
        return ()
    stacks = [Thread(task.frames) for task in found]
    return (Snapshot((), None, "", python_of(stacks), "asyncio debug", (), tuple(dict.fromkeys(found))),)


def tasks_in_line(line: str) -> list[Task]:
    took = TOOK.search(line) if "Executing <" in line else None
    state = f"took {took['seconds']} seconds" if took else ""
    found = [
        Task(one.name, one.frames, one.waits_on, state or one.state, one.coroutine)
        for one in heads_of_tasks(line)
        if one.frames
    ]
    short = SHORT.search(line) if took and not found else None
    if short:
        name = short["named"] or (f"Task-{short['name'].rpartition('-')[2]}" if short["name"] else short["coroutine"])
        return [Task(name, (Frame(short["coroutine"], UNKNOWN),), "", state, short["coroutine"])]
    handle = HANDLE.search(line) if took and not found else None
    if handle and handle["file"]:
        frame = Frame(handle["function"], handle["file"], int(handle["line"]) or None)
        found.append(Task(handle["function"], (frame,), "", state, handle["function"]))
    return found


def head(line: str) -> Head | None:
    """A line that begins the stack of a task."""
    if " for <" not in line[:200] or "most recent call" not in line:
        return None
    found = next(heads_of_tasks(line[:4000]), None)
    if found is None:
        return None
    order = "first" if "most recent call first" in line else "last"
    return replace(found, order=order)


def heads_of_tasks(line: str) -> Iterator[Head]:
    """A Head for every task that the line shows, with the one frame that it names."""
    for found in TASK.finditer(line):
        waits = WAITS.match(line, found.end())
        place = [Frame(found["coroutine"], found["file"], int(found["line"]) or None)] if found["file"] else []
        yield Head(
            "task",
            found["name"] or found["coroutine"],
            state=found["state"],
            coroutine=found["coroutine"],
            waits_on=waits["what"].strip() if waits else "",
            frames=tuple(place),
        )
