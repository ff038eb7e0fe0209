"""asyncio's tasks of a live CPython on Linux: no attach, no pause, no preparation.

They are read out of its memory; where that fails, 3.14 and newer have a tool of their own for it (layout.py).

The way there: the interpreter's image -> its interpreter -> sys.modules -> asyncio.tasks -> the set of all tasks, and
from 3.14 on the lists of them that its threads keep.
A field that reads wrong costs that task, not the rest; what could not be read is a note.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Optional

from hangdebug.capture.interpreter import layout
from hangdebug.capture.interpreter.awaited import (
    awaited_by,
    head_sent,
    is_done,
    is_lock,
    managers_entered,
    names_of_managers,
    names_that_end_waits,
    timeouts_around,
)
from hangdebug.capture.interpreter.coroutines import Moved, collected_tasks, ended_call, follow, listed_tasks
from hangdebug.capture.interpreter.layout import TASK_LISTS_SINCE, HasOwnTool, Layout, Specimen, measured_specimen
from hangdebug.capture.interpreter.memory import Unreadable, mapped_files, open_memory
from hangdebug.capture.interpreter.objects import FIRST, Objects, known_layout
from hangdebug.capture.interpreter.runtimes import interpreters_in
from hangdebug.evidence.frames import library_path
from hangdebug.evidence.libraries import KNOWN_TOPS
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Task

MOST_TASKS, MOST_SECONDS, ATTEMPTS = 20_000, 1.5, 5
SETS = ("_all_tasks", "_scheduled_tasks", "_eager_tasks")
STATES = {0: "pending", 1: "cancelled", 2: "finished"}
FIRST_NAMES = 12
NONSENSE = (LookupError, ValueError, OverflowError)  # raised where a field reads wrong
Executable = tuple[str, int, int, int]  # its path, device, inode and time of change
NOT_KNOWN = "its interpreter's layout is not known, and nothing of it is started unless --probe-interpreter says so"

MOVED = "its asyncio tasks were not read: their lists changed all the time, or stand elsewhere in this build"

layouts: dict[Executable, Layout | Unreadable] = {}  # what probe() found out, by executable


@dataclass(frozen=True)
class TaskList:
    """The tasks, and what went wrong or was left out ("" if nothing)."""

    tasks: tuple[Task, ...] = ()
    note: str = ""


def tasks_of(pid: int, layout: Layout | None = None) -> TaskList:
    """The tasks of `pid` that have not ended, and those that failed. Never raises for what it finds there."""
    try:
        layout = layout or layout_for(pid)
        for _ in range(ATTEMPTS):
            try:
                with open_memory(pid) as memory:
                    return walk(Objects(memory, layout), pid)
            except Moved:
                continue
        return ask_own_tool(pid) if executable_of(pid) in layouts else TaskList((), MOVED)
    except HasOwnTool:
        return ask_own_tool(pid)
    except Unreadable as error:
        return TaskList((), f"its asyncio tasks were not read: {error}")
    except NONSENSE:
        return TaskList((), "its asyncio tasks were not read: what stands in its memory makes no sense")


def failed_tasks_of(pid: int) -> tuple[Task, ...]:
    """The tasks of `pid` that failed, from 3.14 on, where tasks_of() has only pending ones; () where none is found."""
    try:
        layout = layout_for(pid)
        with open_memory(pid) as memory:
            return failed_among(Objects(memory, layout), pid) if layout.version >= TASK_LISTS_SINCE else ()
    except (Unreadable, *NONSENSE):
        return ()


def failed_among(objects: Objects, pid: int) -> tuple[Task, ...]:
    found = [task_at(objects, at) for one in interpreters_of(objects, pid) for at in collected_tasks(objects, one)]
    return tuple(task for task in found if task and task.state.startswith("failed"))


def ask_own_tool(pid: int) -> TaskList:
    """What the interpreter's own tool tells."""
    try:
        return TaskList(layout.tasks_by_pstree(pid), layout.NOTE)
    except Unreadable as error:
        return TaskList((), f"its asyncio tasks were not read: {error}")


def layout_for(pid: int) -> Layout:
    """The layout of the target's interpreter: a known one, or what probe() measured before. Raises Unreadable."""
    known = known_layout(pid)
    if known is not None:
        return known
    found = layouts.get(executable_of(pid)) or Unreadable(NOT_KNOWN)
    if isinstance(found, Unreadable):
        raise type(found)(*found.args)
    if found.inode not in mapped_files(pid):
        raise Unreadable(
            "its interpreter is not the one that has its name here: it was replaced, or runs in a container"
        )
    return found


def probe(pid: int) -> None:
    """Start the interpreter of `pid` once more to measure its layout, where none is known and it may be started.

    Nothing else in the engine starts a program of the target's; only a person's --probe-interpreter leads here.
    """
    try:
        if known_layout(pid) is None and executable_of(pid) not in layouts:
            layouts[executable_of(pid)] = layout_on_specimen(pid)
    except Unreadable:  # it has ended
        return


def executable_of(pid: int) -> Executable:
    """What tells one interpreter from another, also from one that was put in its place. Raises Unreadable."""
    try:
        file = os.stat(f"/proc/{pid}/exe")
        return os.readlink(f"/proc/{pid}/exe"), file.st_dev, file.st_ino, file.st_mtime_ns
    except OSError as error:
        raise Unreadable(f"its program cannot be told: {error.strerror}") from error


def layout_on_specimen(pid: int) -> Layout | Unreadable:
    """The layout that a specimen of its interpreter has, or why there is none."""
    try:
        with measured_specimen(pid) as one:
            try:
                check_layout(one)
            except Unreadable as error:
                return HasOwnTool(str(error)) if one.layout.version >= TASK_LISTS_SINCE else error
            return one.layout
    except Unreadable as error:
        return error


def check_layout(one: Specimen) -> None:
    """Read the specimen's own tasks. Raises Unreadable where that gives anything but the truth."""
    with open_memory(one.pid) as memory:
        found = {task.name: task for task in walk(Objects(memory, one.layout), one.pid).tasks}
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
    if one.layout.version >= TASK_LISTS_SINCE:
        if "left" not in found:
            raise Unreadable("the interpreter keeps the tasks of ended threads in an unknown way")
        with open_memory(one.pid) as memory:
            bad = next(
                (task for task in failed_among(Objects(memory, one.layout), one.pid) if task.name == "bad"), None
            )
    if bad is None or bad.state != "failed: ValueError: spoilt":
        raise Unreadable("the interpreter keeps its exceptions in an unknown way")


def walk(objects: Objects, pid: int) -> TaskList:
    found: list[Task] = []
    skipped, began = 0, time.monotonic()
    for at in task_addresses(objects, pid):
        if time.monotonic() - began > MOST_SECONDS or len(found) >= MOST_TASKS:
            return TaskList(tuple(found), f"only {len(found)} of its asyncio tasks were read")
        try:
            one = task_at(objects, at)
        except (Unreadable, *NONSENSE):  # it moved on while it was read
            skipped += 1
            continue
        if one is not None:
            found.append(one)
    return TaskList(tuple(found), f"{skipped} of its asyncio tasks could not be read" if skipped else "")


def task_addresses(objects: Objects, pid: int) -> Iterator[int]:
    """Where the tasks are. Raises Unreadable when the way to them is blocked."""
    for interpreter in interpreters_of(objects, pid):
        if objects.layout.version >= TASK_LISTS_SINCE:
            yield from list(listed_tasks(objects.memory, objects.layout, interpreter))  # all at once: they change
        module = modules_of(objects, interpreter).get("asyncio.tasks")
        if module is not None:
            yield from tasks_in_sets(objects, module)


def tasks_in_sets(objects: Objects, module: int) -> Iterator[int]:
    memory = objects.memory
    names = objects.mapping(memory.word(module + FIRST))
    for name in SETS:
        if name not in names:
            continue
        weak = objects.type_name(names[name]) == "WeakSet"
        for at in objects.members(objects.attributes(names[name])["data"] if weak else names[name]):
            task = memory.word(at + FIRST) if weak else at
            if objects.type_name(task) not in ("", "NoneType"):
                yield task


def interpreters_of(objects: Objects, pid: int) -> list[int]:
    """Where its interpreters are. Raises Unreadable."""
    image = mapped_files(pid).get(objects.layout.inode)
    if image is None:
        raise Unreadable("its interpreter is another one")
    runtime = image.start + objects.layout.runtime
    found = interpreters_in(objects.memory, runtime, ".".join(map(str, objects.layout.version)))
    return found or [objects.memory.word(runtime + objects.layout.interpreter)]


def modules_of(objects: Objects, interpreter: int) -> dict[str, int]:
    """sys.modules. Raises Unreadable."""
    return objects.mapping(objects.memory.word(interpreter + objects.layout.modules))


def files_of(pid: int) -> tuple[str, ...]:
    """The source files of the application's modules, () where they cannot be read."""
    try:
        layout = layout_for(pid)
        with open_memory(pid) as memory:
            objects = Objects(memory, layout)
            return tuple(
                dict.fromkeys(
                    file
                    for interpreter in interpreters_of(objects, pid)
                    for name, at in modules_of(objects, interpreter).items()
                    if name.partition(".")[0] not in KNOWN_TOPS
                    for file in [file_of(objects, at)]
                    if file and library_path(file) is None
                )
            )
    except (Unreadable, *NONSENSE):
        return ()


def file_of(objects: Objects, module: int) -> str:
    """A module's `__file__`, one of the first names that it gets; "" for one without."""
    try:
        return objects.text(objects.mapping(objects.memory.word(module + FIRST), FIRST_NAMES)["__file__"])
    except (Unreadable, *NONSENSE):
        return ""


def task_at(objects: Objects, at: int) -> Task | None:
    """The task at an address; None for one that ended well, or is no task."""
    if "Task" not in objects.kinds(at):
        return None
    state, coroutine, waiter, name, failure, cancels = (fields_in_c if objects.written_in_c(at) else fields_in_python)(
        objects, at
    )
    title = objects.text(objects.memory.word(coroutine + objects.layout.qualname)) if coroutine else ""
    if state == "finished":
        if not failure:
            return None
        return Task(
            name,
            (),
            "",
            f"failed: {objects.exception(failure)}",
            title,
            at,
            ends=names_that_end_waits(ended_call(objects, coroutine)),
        )
    if state != "pending":
        return None
    found = follow(objects, coroutine)
    what = awaited_by(objects, found, waiter)
    frames = tuple(one.frame for one in found.calls)
    entered = managers_entered(objects, found)
    timed, expired = timeouts_around(objects, found)
    return Task(
        name,
        frames,
        str(what or ""),
        state,
        title,
        at,
        what,
        tuple(one for one in entered if is_lock(objects, one)),
        timed,
        names_that_end_waits(found.calls),
        cancels,
        names_of_managers(objects, entered),
        expired,
        waiter if is_done(objects, waiter) else 0,
        head_sent(objects, found),
    )


# Its state, the addresses of its coroutine and of the future that it awaits, its name, the address of the exception
# with which it failed, and how often it was cancelled.
Fields = tuple[Optional[str], int, int, str, int, int]


def fields_in_c(objects: Objects, at: int) -> Fields:
    memory, layout = objects.memory, objects.layout
    return (
        STATES.get(memory.small(at + layout.future_state)),
        memory.word(at + layout.task_coroutine),
        memory.word(at + layout.task_waiter),
        task_name(objects, memory.word(at + layout.task_name)),
        memory.word(at + layout.future_exception),
        memory.small(at + layout.task_cancels) if layout.task_cancels else 0,
    )


def fields_in_python(objects: Objects, at: int) -> Fields:
    """Of a task class written in Python, as `nest_asyncio` has them all: it has no state while it is pending."""
    found = {name: value for name, value in objects.attributes(at).items() if objects.type_name(value) != "NoneType"}
    return (
        objects.text(found["_state"]).lower() if "_state" in found else "pending",
        found.get("_coro", 0),
        found.get("_fut_waiter", 0),
        task_name(objects, found["_name"]),
        found.get("_exception", 0),
        objects.integer(found["_num_cancels_requested"]) if "_num_cancels_requested" in found else 0,
    )


def task_name(objects: Objects, at: int) -> str:
    """A task's name: a str, or from 3.13 on a number until somebody asks for it."""
    if objects.type_name(at) == "int":
        return f"Task-{objects.integer(at)}"
    return objects.text(at)


def as_plain(part: object) -> object:
    """What JSON knows instead: an object's fields, a set's members in order.

    dataclasses.asdict() takes four times as long.
    """
    return sorted(part) if isinstance(part, frozenset) else vars(part)


def as_json(found: TaskList) -> str:
    """One line a task, and when they were read."""
    rows = ",\n".join(json.dumps(task, default=as_plain) for task in found.tasks)
    return f'{{"note": {json.dumps(found.note)}, "at": {time.monotonic():.1f}, "tasks": [\n{rows}\n]}}\n'


# -- the queues of pools -------------------------------------------------------------------------------

TABLES = {"concurrent.futures.thread": "_threads_queues", "concurrent.futures.process": "_threads_wakeups"}
# queue.SimpleQueue up to 3.12: a list, and how many of its first items are gone; from 3.13 on a ring with its count.
LIST, GONE, CAPACITY, COUNT = 32, 40, 48, 56


def queues_of(pid: int) -> dict[int, tuple[int, int | None]]:
    """How many calls wait, and how many threads the pool may have, None where it does not say: by the kernel's id of
    each pool thread. {} where that cannot be read."""
    try:
        layout = layout_for(pid)
        with open_memory(pid) as memory:
            objects = Objects(memory, layout)
            modules = [row for one in interpreters_of(objects, pid) for row in modules_of(objects, one).items()]
            names = [objects.mapping(memory.word(at + FIRST)) for name, at in modules if name in TABLES]
            tables = [one[table] for one in names for table in TABLES.values() if table in one]
            rows = (row for at in tables for row in objects.pairs(objects.attributes(at)["data"]))
            return dict(queue_row(objects, reference, queue) for reference, queue in rows)
    except (Unreadable, *NONSENSE):
        return {}


def queue_row(objects: Objects, reference: int, queue: int) -> tuple[int, tuple[int, int | None]]:
    """One row: the thread behind a weak reference, the length of its queue and its pool's size. Raises Unreadable."""
    thread = objects.attributes(objects.memory.word(reference + FIRST))
    pending = thread.get("pending_work_items")  # of the thread that serves a pool of processes
    count = objects.length(pending) if pending else queue_length(objects, queue)
    return objects.integer(thread["_native_id"]), (count, None if pending else most_threads(objects, thread))


def most_threads(objects: Objects, thread: Mapping[str, int]) -> int | None:
    """How many threads its pool may have: the first argument of each is a weak reference to the pool."""
    try:
        pool = objects.attributes(objects.memory.word(objects.items(thread["_args"])[0] + FIRST))
        return objects.integer(pool["_max_workers"])
    except (Unreadable, *NONSENSE):
        return None


def queue_length(objects: Objects, queue: int) -> int:
    memory = objects.memory
    if objects.type_name(queue) != "SimpleQueue":
        raise Unreadable(f"no queue at {queue:#x}")
    if objects.layout.version >= (3, 13):
        count, capacity = memory.word(queue + COUNT), memory.word(queue + CAPACITY)
    else:
        capacity = objects.length(memory.word(queue + LIST))
        count = capacity - memory.word(queue + GONE)
    if not 0 <= count <= capacity:
        raise Unreadable(f"no queue at {queue:#x}")
    return count
