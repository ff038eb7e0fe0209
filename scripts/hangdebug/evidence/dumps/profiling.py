"""Python 3.15's own profiler: `python -m profiling.sampling dump [--all-threads] [--async-aware] PID`.

    Stack dump for PID 2820, thread 2820 (main thread, idle; most recent call last):
      File "app.py", line 20, in <module>
        asyncio.run(main())

    Stack dump, thread 2820 (task 140047914469808; most recent call last):
      File "<task>", in save-1
      File "app.py", line 6, in Store.save

A task's stack begins with the tasks that await it, each named by a line of its own; the last one is the task.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Iterable

from hangdebug.evidence.dumps import grammar as stacks
from hangdebug.evidence.dumps import printouts
from hangdebug.evidence.dumps.grammar import Grammar, Head
from hangdebug.evidence.model import Frame, Snapshot, Task

HEAD = re.compile(
    r"Stack dump(?: for PID (?P<pid>\d{1,10}))?, thread (?P<id>\d{1,20}) \("
    r"(?P<what>[^()]{0,200}?)(?:; |, )?"
    r"most recent call (?P<order>first|last)\)"
)
MARK = "<task>"


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a sample, its threads known by the kernel's id; with `--async-aware` tasks as well."""
    return tuple(replace(one, tasks=tuple(map(without_awaiters, one.tasks))) for one in stacks.read(lines, GRAMMAR))


def head(line: str) -> Head | None:
    found = HEAD.search(line[:500]) if "Stack dump" in line[:500] else None
    if not found:
        return None
    what = found["what"]
    if what.startswith("task "):
        return Head("task", what[5:].split(",")[0], order=found["order"])
    name = "MainThread" if what.startswith("main thread") else ""
    owns = "gil" in what.lower() or None
    return Head("thread", name, int(found["id"]), False if "idle" in what else None, owns, found["order"])


def without_awaiters(task: Task) -> Task:
    """The task without the frames of those that await it."""
    marks = [index for index, frame in enumerate(task.frames) if frame.file == MARK]
    if not marks:
        return task
    frames = task.frames[: marks[0]]
    inner = frames[0].function if frames else ""
    return Task(task.frames[marks[0]].function, frames, inner, task.state, frames[-1].function if frames else "")


def frames(line: str) -> list[Frame]:
    return printouts.with_comma(line)


GRAMMAR = Grammar("profiling.sampling", head, frames, order="last", source=True)
