"""asyncio's tasks of a live CPython 3.14 or newer, by its own `python -m asyncio pstree PID`.

This is asked where the memory of the process is not understood, and --probe-interpreter was given.

It shows where each task waits, and nothing of what it waits for: not who is inside of a lock, nor whether a semaphore
has a permit left. So its answer carries that as a note, and no rule concludes anything from what is not there.
"""

from __future__ import annotations

import zlib
from dataclasses import replace

from hangdebug.capture.interpreter.layout import run_like
from hangdebug.capture.interpreter.memory import Unreadable
from hangdebug.evidence.dumps import asyncio_tools
from hangdebug.evidence.frames import library_path
from hangdebug.evidence.libraries import ASYNCIO_PRIMITIVES, TIMED_WAITS
from hangdebug.evidence.model import Awaited, Task

NOTE = "Python's own `asyncio pstree` shows where they wait, not who holds what they wait for"
WITHIN = 5.0


def tasks_by_pstree(pid: int) -> tuple[Task, ...]:
    """The tasks that have not ended. Raises Unreadable with what the interpreter says."""
    with run_like(pid, "-m", "asyncio", "pstree", str(pid)) as process:
        output, errors = process.communicate(timeout=WITHIN)
    if process.returncode:
        raise Unreadable((errors.decode(errors="replace").strip() or "it gave no reason").splitlines()[-1])
    found = asyncio_tools.read(output.decode(errors="replace").splitlines())
    tasks = {(task.name, task.frames): task for one in found for task in one.tasks}  # one is shown under each waiter
    return tuple(map(with_wait, tasks.values()))


def with_wait(task: Task) -> Task:
    """The task with what its frames say of its wait. It has no address here, so its name must do for the id."""
    number = zlib.crc32(task.name.encode())
    inner = next(
        (frame for frame in task.frames if library_path(frame.file) in ASYNCIO_PRIMITIVES and "." in frame.function),
        None,
    )
    waits = [frame.name for frame in task.frames if library_path(frame.file) == "asyncio/tasks.py"]
    if inner is not None:
        kind, _, method = inner.function.rpartition(".")
        awaits = Awaited(kind, number, method)
    else:
        awaits = Awaited("timer" if waits[:1] == ["sleep"] else "Future", number)
    return replace(
        task,
        id=number,
        state="pending",
        awaits=awaits,
        waits_on=str(awaits),
        timed=any(one in TIMED_WAITS for one in waits),
    )
