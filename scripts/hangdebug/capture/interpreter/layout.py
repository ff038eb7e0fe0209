"""Where things stand inside of CPython's objects: measured on a specimen, an interpreter like the target's.

This is for a Python that objects.py does not know, only where a person asks for it (tasks.probe), and only where the
target runs CPython's own program (is_plain_interpreter). That is started, as the target's user, with specimen.py,
which makes objects whose contents are known. Where a
pointer to the one is found in the other, there its field is. Fields that no CPython from 3.9 on has moved are
plain constants in objects.py. Nothing measured is believed until the specimen's own tasks were read with it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hangdebug.capture.interpreter.memory import Memory, Unreadable, mapped_file_at, open_memory
from hangdebug.capture.interpreter.runtimes import is_plain_interpreter
from hangdebug.evidence.dumps import asyncio_tools
from hangdebug.evidence.frames import library_path
from hangdebug.evidence.libraries import ASYNCIO_PRIMITIVES, TIMED_WAITS
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Awaited, Task
from hangdebug.files import uninterrupted

NOT_STARTED = "its layout is not known, and its program is not proved to be a plain Python that may be started"
SPECIMEN = Path(__file__).with_name("specimen.py")
STARTS_WITHIN, MOST_TEXT = 5.0, 1 << 16
OLDEST, NEWEST = (3, 9), (3, 15)
CANCELS_SINCE = (3, 11)  # from here on a task has cancelling()
TASK_LISTS_SINCE = (3, 14)  # from here on lists hold the tasks (tasks.py), and Python can print them itself
FARTHEST, FARTHEST_RUNTIME = 2048, 1 << 20
# Before an object stands its node of the garbage collector, two bits of which are the collector's own.
GC_HEAD, GC_FLAGS, MOST_NODES, FARTHEST_HEAD = 16, 3, 100_000, 1 << 16


class HasOwnTool(Unreadable):
    """An interpreter that is not understood, and has a tool for its tasks."""


@dataclass(frozen=True)
class Layout:
    """Offsets in bytes. `frame` leads from a coroutine to its frame up to 3.10, and to `code` in it from 3.11 on.

    `task_cancels` is known from CANCELS_SINCE on, where a task counts how often it was cancelled. The six before it
    are known from TASK_LISTS_SINCE on: where an interpreter has its first thread and the tasks of ended ones, a thread
    the next one and its tasks, a task its node, and the interpreter a head of its garbage collector's rings.
    """

    version: tuple[int, int]
    inode: str
    runtime: int
    interpreter: int
    modules: int
    code_name: int
    code_file: int
    code_table: int
    code_names: int
    code_first: int
    code_size: int
    qualname: int
    code: int
    frame: int
    lasti: int
    task_coroutine: int
    task_waiter: int
    task_name: int
    future_state: int
    future_exception: int
    shared_keys: int
    items: int
    ascii: int
    wide: int
    threads: int = 0
    left_tasks: int = 0
    next_thread: int = 0
    thread_tasks: int = 0
    task_node: int = 0
    collector: int = 0
    task_cancels: int = 0


@dataclass(frozen=True)
class Specimen:
    pid: int
    facts: dict[str, Any]
    layout: Layout


@contextmanager
def measured_specimen(pid: int) -> Iterator[Specimen]:
    """An interpreter like that of `pid`, measured; it is ended on the way out. Raises Unreadable."""
    with run_like(pid, "-S", "-c", SPECIMEN.read_text(encoding="utf-8")) as process:
        try:
            facts = read_greeting(process)
            layout = measure_or_refer(process.pid, facts)
        except (KeyError, IndexError, TypeError, ValueError, struct.error) as error:  # it can print what it likes
            raise Unreadable("the target's interpreter does not answer as Python does") from error
        yield Specimen(process.pid, facts, layout)


@contextmanager
def run_like(pid: int, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the program of `pid`, isolated, with these words; its whole group is ended on the way out.

    Its standard streams are pipes. Raises Unreadable.
    """
    command, options = command_like(pid)
    process: subprocess.Popen[bytes] | None = None
    try:
        with uninterrupted():
            process = subprocess.Popen(
                [*command, "-I", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                **options,
            )
        yield process
    except (OSError, subprocess.SubprocessError) as error:
        raise Unreadable(f"the target's interpreter does not start, or does not answer: {error}") from error
    finally:
        if process is not None:
            with uninterrupted(), suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with process:  # its pipes are closed, and its end is collected
                pass


def command_like(pid: int) -> tuple[list[str], dict[str, Any]]:
    """The program of `pid`, and the options for Popen with which to run it. Raises Unreadable.

    It runs as the user that `pid` runs as, with an empty environment and in a group of processes of its own. Anything
    but CPython's own program is refused: an application would do its work a second time.
    """
    try:
        program, owner = os.readlink(f"/proc/{pid}/exe"), os.stat(f"/proc/{pid}")
        same = os.path.samestat(os.stat(program), os.stat(f"/proc/{pid}/exe"))
    except OSError as error:
        raise Unreadable(f"the target's interpreter does not start: {error}") from error
    if not same or not is_plain_interpreter(program):
        raise Unreadable(NOT_STARTED)
    if os.geteuid() not in (0, owner.st_uid):
        raise Unreadable("its layout is not known, and to learn it would take a Python of the same user")
    user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    return [program], {"cwd": "/", "env": {}, "start_new_session": True, **user}


def read_greeting(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What the specimen prints. Raises Unreadable for an interpreter that cannot be walked."""
    line = first_line(process, STARTS_WITHIN)
    try:
        facts: dict[str, Any] = json.loads(line)
        version = tuple(facts["version"][:2])
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable("the target's interpreter does not run by itself") from error
    name = ".".join(map(str, version))
    if facts["implementation"] != "cpython" or facts["bits"] != 64:
        raise Unreadable(f"{facts['implementation']} on {facts['bits']} bits is not known to this tool")
    if "t" in facts["flags"]:
        raise Unreadable("a free-threaded build of Python keeps its objects differently")
    if version < OLDEST:
        raise Unreadable(f"Python {name} is older than this tool knows")
    if version > NEWEST:
        raise HasOwnTool(f"Python {name} prints its tasks itself: python{name} -m asyncio pstree PID")
    return facts


def measure_or_refer(pid: int, facts: dict[str, Any]) -> Layout:
    """The layout of the specimen. Where it cannot be measured, HasOwnTool is raised for a Python that has a tool."""
    try:
        with open_memory(pid) as memory:
            return measure(memory, pid, facts)
    except Unreadable as error:
        if tuple(facts["version"][:2]) >= TASK_LISTS_SINCE:
            raise HasOwnTool(str(error)) from error
        raise


def first_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """What `process` prints up to the end of a line, b"" where that does not come in time."""
    deadline, text = time.monotonic() + seconds, b""
    assert process.stdout is not None  # it was started with a pipe
    descriptor = process.stdout.fileno()
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(descriptor, 65536) if ready else b""
        if not part or len(text) > MOST_TEXT:
            return b""
        text += part
    return text


def measure(memory: Memory, pid: int, facts: dict[str, Any]) -> Layout:
    """The layout, by looking for the specimen's known values in its memory. Raises Unreadable."""
    runtime, version = facts["runtime"], tuple(facts["version"][:2])
    library = mapped_file_at(pid, runtime)
    if library is None:
        raise Unreadable("the interpreter's image is not in its mappings")
    codes, coroutines, tasks = facts["codes"], facts["coroutines"], facts["tasks"]
    code_type = memory.word(codes[0]["at"] + 8)
    size = memory.word(code_type + 32)
    code = offset_of_pointer(
        memory, coroutines, "code", last=True
    )  # 3.11 has it twice: in the coroutine, and in its frame
    frame = offset_of_pointer(memory, coroutines, "frame") if version < (3, 11) else code
    return Layout(
        version=version,
        inode=library.inode,
        runtime=runtime - library.start,
        interpreter=offset_of(memory, [(runtime, facts["interpreter"])], FARTHEST_RUNTIME),
        modules=offset_of(memory, [(facts["interpreter"], facts["modules"])], FARTHEST_RUNTIME),
        code_name=offset_of_pointer(memory, codes, "name"),
        code_file=offset_of_pointer(memory, codes, "file"),
        code_table=offset_of_pointer(memory, codes, "table"),
        code_names=offset_of_pointer(memory, codes, "names"),
        code_first=offset_of(memory, [(one["at"], one["first"]) for one in codes], FARTHEST, "<i"),
        code_size=size,
        qualname=offset_of_pointer(memory, coroutines, "qualname"),
        code=code,
        frame=frame,
        lasti=last_instruction(memory, version, coroutines, frame, size),
        task_coroutine=offset_of_pointer(memory, tasks, "coroutine"),
        task_waiter=offset_of_pointer(memory, tasks, "waiter"),
        task_name=offset_of_pointer(memory, tasks, "name"),
        future_state=offset_of(memory, facts["futures"], 256, "<i"),
        future_exception=offset_of(memory, [facts["failed"]], 256),
        shared_keys=offset_of(memory, [(facts["shared"][0], memory.word(facts["shared"][1] + 32))], FARTHEST),
        items=offset_of(memory, [facts["items"]], 64),
        ascii=facts["ascii"] - 1,
        wide=facts["other"] - 4,
        task_cancels=offset_of(memory, facts["cancels"], 256, "<i") if version >= CANCELS_SINCE else 0,
        **(measure_task_lists(memory, facts) if version >= TASK_LISTS_SINCE else {}),
    )


def measure_task_lists(memory: Memory, facts: dict[str, Any]) -> dict[str, int]:
    """The six offsets that are known from TASK_LISTS_SINCE on, by name.

    The specimen's two tasks follow each other in the list of its thread, the lost one is alone.
    """
    interpreter, (thread, following) = facts["interpreter"], facts["threads"]
    one, other = (task["at"] for task in facts["tasks"])
    node = next(
        (
            at
            for at in range(16, 256, 8)
            if memory.word(one + at) == other + at and memory.word(other + at + 8) == one + at
        ),
        0,
    )
    head, left = memory.word(other + node), memory.word(facts["left"] + node)
    tasks = head - facts["thread"]
    if (
        not node
        or memory.word(head) != one + node
        or memory.word(left) != facts["left"] + node
        or not 0 < tasks < FARTHEST_RUNTIME
    ):
        raise Unreadable("the interpreter keeps its tasks in an unknown way")
    first = offset_of(memory, [(interpreter, thread)], FARTHEST_RUNTIME)
    following = offset_of(memory, [(thread - 16, following)], 256) - 16
    return {
        "threads": first,
        "left_tasks": left - interpreter,
        "next_thread": following,
        "thread_tasks": tasks,
        "task_node": node,
        "collector": measure_collector(memory, interpreter, one),
    }


def measure_collector(memory: Memory, interpreter: int, task: int) -> int:
    """Where the interpreter has the head of a ring of objects: the one that a known object is in. Raises Unreadable."""
    node = task - GC_HEAD
    for _ in range(MOST_NODES):
        node = memory.word(node) & ~GC_FLAGS
        if 0 < node - interpreter < FARTHEST_HEAD:
            return node - interpreter
    raise Unreadable("the interpreter keeps its objects in an unknown way")


def offset_of_pointer(memory: Memory, samples: list[dict[str, int]], key: str, last: bool = False) -> int:
    return offset_of(memory, [(one["at"], one[key]) for one in samples], FARTHEST, last=last)


def last_instruction(
    memory: Memory, version: tuple[int, int], coroutines: list[dict[str, int]], frame: int, size: int
) -> int:
    """Up to 3.10 an int in the frame (in words of two bytes in 3.10); from 3.11 on a pointer into the code."""
    if version < (3, 11):
        unit = 2 if version == (3, 10) else 1
        return offset_of(memory, [(one["frame"], one["lasti"] // unit) for one in coroutines], 256, "<i")
    return offset_of(memory, [(one["at"] + frame, one["code"] + size + one["lasti"]) for one in coroutines], 256)


def offset_of(
    memory: Memory, pairs: Iterable[tuple[int, int]], farthest: int, form: str = "<Q", last: bool = False
) -> int:
    """The offset at which, behind each address, stands the value that belongs to it. Raises Unreadable."""
    offsets = None
    for at, value in pairs:
        found = set(positions(memory.block(at, farthest), struct.pack(form, value)))
        offsets = found if offsets is None else offsets & found
    if not offsets:
        raise Unreadable("the interpreter keeps its objects in an unknown way")
    return max(offsets) if last else min(offsets)


def positions(text: bytes, wanted: bytes) -> Iterator[int]:
    """Where `wanted` stands in `text`, aligned, and behind an object's head."""
    at = text.find(wanted, 16)
    while at >= 0:
        if at % len(wanted) == 0:
            yield at
        at = text.find(wanted, at + 1)


# -- asked itself --------------------------------------------------------------------------------------
# asyncio's tasks of a live CPython 3.14 or newer, by its own `python -m asyncio pstree PID`.
#
# This is asked where the memory of the process is not understood, and --probe-interpreter was given.
#
# It shows where each task waits, and nothing of what it waits for: not who is inside of a lock, nor whether a semaphore
# has a permit left. So its answer carries that as a note, and no rule concludes anything from what is not there.

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
