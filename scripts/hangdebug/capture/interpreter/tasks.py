"""asyncio's tasks of a live CPython on Linux: no attach, no pause, no preparation.

They are read out of its memory; where that fails, 3.14 and newer have a tool of their own for it (own_tools.py).

The way there: the interpreter's image -> its interpreter -> sys.modules -> asyncio.tasks -> the set of all tasks, and
from 3.14 on the lists of them that its threads keep (linked.py).
A field that reads wrong costs that task, not the rest; what could not be read is a note.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass
from typing import Iterator

from hangdebug.capture.interpreter import asyncio_pstree as own_tools
from hangdebug.capture.interpreter.awaited import awaited, ends, inside, timed
from hangdebug.capture.interpreter.coroutines import chain, code_of
from hangdebug.capture.interpreter.layout import LINKED, Layout, Newer, Specimen, specimen
from hangdebug.capture.interpreter.memory import Unreadable, mappings, opened
from hangdebug.capture.interpreter.objects import FIRST, Objects
from hangdebug.capture.interpreter.task_lists import Moved, collected, linked
from hangdebug.evidence.frames import library_path
from hangdebug.evidence.libraries import KNOWN_TOPS
from hangdebug.evidence.model import Task

MOST_TASKS, MOST_SECONDS, ATTEMPTS = 20_000, 1.5, 5
SETS = ("_all_tasks", "_scheduled_tasks", "_eager_tasks")
STATES = {0: "pending", 1: "cancelled", 2: "finished"}
EXCEPTION_ARGS, MOST_WORDS, FIRST_NAMES = 24, 200, 12
Executable = tuple[str, int, int, int]  # its path, device, inode and time of change
FAILED_FOR = 10.0  # seconds; what failed because the machine was busy is tried again in a longer session

# By executable: when it was measured, and the outcome.
layouts: dict[Executable, tuple[float, Layout | Unreadable]] = {}
measuring = threading.Lock()  # the workers of a server are looked at side by side, and run the same executable


@dataclass(frozen=True)
class Reading:
    """The tasks, and what went wrong or was left out ("" if nothing)."""

    tasks: tuple[Task, ...] = ()
    note: str = ""


def tasks_of(pid: int, layout: Layout | None = None) -> Reading:
    """The tasks of `pid` that have not ended, and those that failed. Never raises for what it finds there."""
    try:
        layout = layout or layout_for(pid)
        for _ in range(ATTEMPTS):
            try:
                with opened(pid) as memory:
                    return walked(Objects(memory, layout), pid)
            except Moved:
                continue
        return told(pid)
    except Newer:
        return told(pid)
    except Unreadable as error:
        return Reading((), f"its asyncio tasks were not read: {error}")


def ended_of(pid: int) -> tuple[Task, ...]:
    """The tasks of `pid` that failed, from 3.14 on, where tasks_of() has only pending ones; () where none is found."""
    try:
        layout = layout_for(pid)
        with opened(pid) as memory:
            return failed(Objects(memory, layout), pid) if layout.version >= LINKED else ()
    except (Unreadable, LookupError, ValueError, OverflowError):
        return ()


def failed(objects: Objects, pid: int) -> tuple[Task, ...]:
    found = [task_at(objects, at) for at in collected(objects, interpreter_of(objects, pid))]
    return tuple(task for task in found if task and task.state.startswith("failed"))


def told(pid: int) -> Reading:
    """What the interpreter's own tool tells."""
    try:
        return Reading(own_tools.tasks(pid), own_tools.NOTE)
    except Unreadable as error:
        return Reading((), f"its asyncio tasks were not read: {error}")


def layout_for(pid: int) -> Layout:
    """The layout of the target's interpreter, proved once for each executable. Raises Unreadable."""
    which = executable(pid)
    with measuring:
        when, found = layouts.get(which, (0.0, None))
        if found is None or isinstance(found, Unreadable) and time.monotonic() - when > FAILED_FOR:
            found = proved(pid)
            layouts[which] = time.monotonic(), found
    if isinstance(found, Unreadable):
        raise type(found)(*found.args)
    if found.inode not in mappings(pid):
        raise Unreadable(
            "its interpreter is not the one that has its name here: it was replaced, or runs in a container"
        )
    return found


def executable(pid: int) -> Executable:
    """What tells one interpreter from another, also from one that was put in its place. Raises Unreadable."""
    try:
        file = os.stat(f"/proc/{pid}/exe")
        return os.readlink(f"/proc/{pid}/exe"), file.st_dev, file.st_ino, file.st_mtime_ns
    except OSError as error:
        raise Unreadable(f"the target's interpreter does not start: {error}") from error


def proved(pid: int) -> Layout | Unreadable:
    """The layout that a specimen of its interpreter has, or why there is none."""
    try:
        with specimen(pid) as one:
            try:
                prove(one)
            except Unreadable as error:
                return Newer(str(error)) if one.layout.version >= LINKED else error
            return one.layout
    except Unreadable as error:
        return error


def prove(one: Specimen) -> None:
    """Read the specimen's own tasks. Raises Unreadable where that gives anything but the truth."""
    with opened(one.pid) as memory:
        found = {task.name: task for task in walked(Objects(memory, one.layout), one.pid).tasks}
    listening, entering, bad = (found.get(name) for name in ("listen-\u00e9", "enter", "bad"))
    whole = one.layout.version >= (3, 11)
    for task, place, names in ((listening, 0, "source listen"), (entering, 1, "acquire __aenter__ enter_twice")):
        lines = [frame.line for frame in task.frames][-1:] if task else []
        if (
            task is None
            or " ".join(frame.name for frame in task.frames) != names
            or lines != [one.facts["coroutines"][place]["line"]]
            or task.frames[-1].function.startswith("Jobs.") != whole
        ):
            raise Unreadable("the interpreter keeps its coroutines in an unknown way")
    lock = entering.awaits if entering else None
    if entering is None or lock is None or lock.counts != {"locked": 1, "waiters": 1} or entering.inside != (lock.id,):
        raise Unreadable("the interpreter keeps its attributes in an unknown way")
    if one.layout.version >= LINKED:
        if "left" not in found:
            raise Unreadable("the interpreter keeps the tasks of ended threads in an unknown way")
        with opened(one.pid) as memory:
            bad = next((task for task in failed(Objects(memory, one.layout), one.pid) if task.name == "bad"), None)
    if bad is None or bad.state != "failed: ValueError: spoilt":
        raise Unreadable("the interpreter keeps its exceptions in an unknown way")


def walked(objects: Objects, pid: int) -> Reading:
    found: list[Task] = []
    skipped, began = 0, time.monotonic()
    for at in addresses(objects, pid):
        if time.monotonic() - began > MOST_SECONDS or len(found) >= MOST_TASKS:
            return Reading(tuple(found), f"only {len(found)} of its asyncio tasks were read")
        try:
            one = task_at(objects, at)
        except (Unreadable, LookupError, ValueError, OverflowError):  # it moved on while it was read
            skipped += 1
            continue
        if one is not None:
            found.append(one)
    return Reading(tuple(found), f"{skipped} of its asyncio tasks could not be read" if skipped else "")


def addresses(objects: Objects, pid: int) -> Iterator[int]:
    """Where the tasks are. Raises Unreadable when the way to them is blocked."""
    memory = objects.memory
    if objects.layout.version >= LINKED:
        yield from list(linked(memory, objects.layout, interpreter_of(objects, pid)))  # all at once: they change
    module = modules_of(objects, pid).get("asyncio.tasks")
    if module is None:
        return
    names = objects.mapping(memory.word(module + FIRST))
    for name in SETS:
        if name not in names:
            continue
        weak = objects.type_name(names[name]) == "WeakSet"
        for at in objects.members(objects.attributes(names[name])["data"] if weak else names[name]):
            task = memory.word(at + FIRST) if weak else at
            if objects.type_name(task) not in ("", "NoneType"):
                yield task


def interpreter_of(objects: Objects, pid: int) -> int:
    image = mappings(pid).get(objects.layout.inode)
    if image is None:
        raise Unreadable("its interpreter is another one")
    return objects.memory.word(image.start + objects.layout.runtime + objects.layout.interpreter)


def modules_of(objects: Objects, pid: int) -> dict[str, int]:
    """sys.modules. Raises Unreadable."""
    return objects.mapping(objects.memory.word(interpreter_of(objects, pid) + objects.layout.modules))


def files_of(pid: int) -> tuple[str, ...]:
    """The source files of the application's modules, () where they cannot be read."""
    try:
        layout = layout_for(pid)
        with opened(pid) as memory:
            objects = Objects(memory, layout)
            modules = modules_of(objects, pid)
            return tuple(
                dict.fromkeys(
                    file
                    for name, at in modules.items()
                    if name.partition(".")[0] not in KNOWN_TOPS
                    for file in [file_of(objects, at)]
                    if file and library_path(file) is None
                )
            )
    except Unreadable:
        return ()


def file_of(objects: Objects, module: int) -> str:
    """A module's `__file__`, one of the first names that it gets; "" for one without."""
    try:
        return objects.text(objects.mapping(objects.memory.word(module + FIRST), FIRST_NAMES)["__file__"])
    except (Unreadable, LookupError, ValueError, OverflowError):
        return ""


def task_at(objects: Objects, at: int) -> Task | None:
    """The task at an address; None for one that ended well, or is no task."""
    memory, layout = objects.memory, objects.layout
    if "Task" not in objects.kinds(at):
        return None
    state = STATES.get(memory.small(at + layout.future_state))
    coroutine = memory.word(at + layout.task_coroutine)
    name = name_of(objects, memory.word(at + layout.task_name))
    title = objects.text(memory.word(coroutine + layout.qualname)) if coroutine else ""
    if state == "finished":
        failure = memory.word(at + layout.future_exception)
        if not failure:
            return None
        return Task(
            name, (), "", f"failed: {words(objects, failure)}", title, at, ends=ends(code_of(objects, coroutine))
        )
    if state != "pending":
        return None
    found = chain(objects, coroutine)
    what = awaited(objects, found, memory.word(at + layout.task_waiter))
    frames = tuple(one.frame for one in found.calls)
    return Task(
        name,
        frames,
        str(what or ""),
        state,
        title,
        at,
        what,
        inside(objects, found),
        timed(objects, found),
        ends(found.calls),
        memory.small(at + layout.task_cancels) if layout.task_cancels else 0,
    )


def name_of(objects: Objects, at: int) -> str:
    """A task's name: a str, or from 3.13 on a number until somebody asks for it."""
    if objects.type_name(at) == "int":
        return f"Task-{objects.integer(at)}"
    return objects.text(at)


def words(objects: Objects, at: int) -> str:
    """An exception as its traceback would end."""
    kind = objects.type_name(at)
    try:
        args = objects.items(objects.memory.word(at + EXCEPTION_ARGS))
        return f"{kind}: {objects.text(args[0])[:MOST_WORDS]}" if args else kind
    except Unreadable:
        return kind


def plain(part: object) -> object:
    """What JSON knows instead: an object's fields, a set's members in order.

    dataclasses.asdict() takes four times as long.
    """
    return sorted(part) if isinstance(part, frozenset) else vars(part)


def as_json(reading: Reading) -> str:
    """One line a task."""
    rows = ",\n".join(json.dumps(task, default=plain) for task in reading.tasks)
    return f'{{"note": {json.dumps(reading.note)}, "tasks": [\n{rows}\n]}}\n'
