"""The stacks of the threads of every interpreter in a process, from Python 3.13 on: it says itself where its parts are.

py-spy reads the newest interpreter alone: of a pool of interpreters one that may run nothing. Nothing attaches here,
and nothing is paused. `_PyRuntime` begins with a table of offsets (Include/internal/pycore_debug_offsets.h); which of
its rows is for what differs by version.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hangdebug.capture.interpreter.coroutines import TAG, line_at
from hangdebug.capture.interpreter.memory import Memory, Unreadable, open_memory
from hangdebug.capture.interpreter.objects import FREE_THREADED
from hangdebug.capture.interpreter.runtimes import SAYS_ITS_OFFSETS, Runtime, runtime_of
from hangdebug.evidence.light import dataclass

MOST_INTERPRETERS, MOST_THREADS, MOST_FRAMES, MOST_TEXT, ATTEMPTS = 1000, 20_000, 1000, 4096, 5
OWN_FRAMES = 3  # a frame with an owner from here on is the interpreter's, between a call from C and Python's code
# Where in the table each of Offsets stands, in bytes from its begin.
PLACES = {
    "3.13": (40, 56, 64, 72, 168, 184, 192, 200, 232, 240, 248, 264, 280, 296, 304, 312, 344, 360, 376, 544, 552, 560,
             520, 528),
    "3.14": (40, 56, 64, 72, 192, 208, 216, 224, 256, 264, 272, 288, 320, 336, 344, 352, 384, 408, 424, 624, 632, 640,
             600, 608),
    "3.15": (40, 56, 64, 72, 192, 208, 240, 248, 320, 328, 336, 352, 384, 400, 408, 416, 448, 472, 488, 720, 728, 736,
             696, 704),
}  # fmt: skip


@dataclass(frozen=True)
class Offsets:
    """In bytes: of a runtime, an interpreter, a thread, a frame, a code object, any object, a type, a str and bytes."""

    first_interpreter: int
    number: int
    next_interpreter: int
    first_thread: int
    next_thread: int
    frame: int
    address: int
    os_id: int
    previous: int
    executable: int
    instruction: int
    owner: int
    file: int
    name: int
    table: int
    first_line: int
    code: int
    type: int
    type_name: int
    state: int
    length: int
    text: int
    size: int
    data: int


@dataclass(frozen=True)
class Interpreters:
    """The interpreters of one process, which runs Python `version`."""

    memory: Memory
    runtime: int
    version: tuple[int, int]
    at: Offsets

    def threads(self) -> Iterator[tuple[int, int]]:
        """Of each thread of each interpreter: the interpreter's number, and where its state is. Raises Unreadable."""
        word, at = self.memory.word, self.at
        interpreter = word(self.runtime + at.first_interpreter)
        for _ in range(MOST_INTERPRETERS):
            if not interpreter:
                return
            thread = word(interpreter + at.first_thread)
            for _ in range(MOST_THREADS):
                if not thread:
                    break
                yield word(interpreter + at.number), thread
                thread = word(thread + at.next_thread)
            interpreter = word(interpreter + at.next_interpreter)

    def frames(self, thread: int) -> Iterator[dict[str, Any]]:
        """A thread's frames, innermost first, as py-spy's JSON has them. Raises Unreadable."""
        word, at = self.memory.word, self.at
        frame = word(thread + at.frame)
        for _ in range(MOST_FRAMES):
            if not frame:
                return
            if self.memory.byte(frame + at.owner) < OWN_FRAMES:
                yield self.place(word(frame + at.executable) & ~TAG, word(frame + at.instruction))
            frame = word(frame + at.previous)
        raise Unreadable("a stack without an end")

    def place(self, code: int, instruction: int) -> dict[str, Any]:
        at, memory = self.at, self.memory
        self.check(code, b"code\0")
        table = memory.word(code + at.table)
        self.check(table, b"bytes\0")
        lines = memory.read(table + at.data, memory.word(table + at.size))
        line = line_at(lines, memory.small(code + at.first_line), instruction - code - at.code, self.version)
        return {
            "name": self.text(memory.word(code + at.name)),
            "filename": self.text(memory.word(code + at.file)),
            "line": line,
        }

    def check(self, one: int, kind: bytes) -> None:
        """Raises Unreadable where `one` is no object of this type."""
        name = self.memory.word(self.memory.word(one + self.at.type) + self.at.type_name)
        if self.memory.read(name, len(kind)) != kind:
            raise Unreadable(f"no {kind[:-1].decode()} at {one:#x}")

    def text(self, one: int) -> str:
        self.check(one, b"str\0")
        wide = self.memory.word(self.runtime + FREE_THREADED) and self.version >= (3, 14)
        state = self.memory.small(one + self.at.state) >> (8 if wide else 2)
        kind, whole, ascii_ = state & 7, state >> 3 & 1, state >> 4 & 1
        if kind not in (1, 2, 4) or not whole:
            raise Unreadable(f"a str of kind {kind}")
        start = one + self.at.text + (0 if ascii_ else 16)
        raw = self.memory.read(start, min(self.memory.word(one + self.at.length), MOST_TEXT) * kind)
        return raw.decode({1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[kind], "replace")


def better_from_memory(pid: int, runtime: Runtime | None) -> bool:
    """Whether py-spy gives not all stacks, or none (several interpreters, a free-threaded build), and `dump` does."""
    if runtime is None or runtime.at is None:
        return False
    try:
        with open_memory(pid) as memory:
            says = memory.read(runtime.at, len(SAYS_ITS_OFFSETS)) == SAYS_ITS_OFFSETS
            several = (runtime.interpreters or 0) > 1 or memory.word(runtime.at + FREE_THREADED) != 0
    except Unreadable:
        return False
    return says and several and dump(pid) is not None


def dump(pid: int) -> str | None:
    """The stacks of all threads of `pid`, in the form of py-spy's JSON; None where they cannot be read so.

    A stack that changes meanwhile makes no sense: then all are read anew, ATTEMPTS times at most.
    """
    try:
        runtime = runtime_of(pid)
        places = PLACES.get(runtime.version or "") if runtime is not None else None
        if runtime is None or runtime.at is None or places is None:
            return None
        major, minor = map(int, (runtime.version or "").split("."))
    except Unreadable:
        return None
    for _ in range(ATTEMPTS):
        try:
            with open_memory(pid) as memory:
                if memory.read(runtime.at, len(SAYS_ITS_OFFSETS)) != SAYS_ITS_OFFSETS:
                    return None
                offsets = Offsets(*(memory.word(runtime.at + place) for place in places))
                return json.dumps(rows_of(pid, Interpreters(memory, runtime.at, (major, minor), offsets)), indent=1)
        except Unreadable:
            continue
    return None


def rows_of(pid: int, seen: Interpreters) -> list[dict[str, Any]]:
    """A row for each thread. Where one interpreter has called another in it, the other's frames come first."""
    rows: dict[int, dict[str, Any]] = {}
    for number, thread in sorted(seen.threads(), reverse=True):
        os_id, frames = seen.memory.word(thread + seen.at.os_id), list(seen.frames(thread))
        name = "MainThread" if os_id == pid else f"interpreter {number}" if number else name_from_kernel(pid, os_id)
        row = rows.setdefault(
            os_id,
            {
                "pid": pid,
                "thread_id": seen.memory.word(thread + seen.at.address),
                "thread_name": name,
                "os_thread_id": os_id,
                "active": None,
                "owns_gil": None,
                "frames": [],
            },
        )
        row["frames"] += frames
    return list(rows.values())


def name_from_kernel(pid: int, tid: int) -> str:
    """Python gives the kernel its threads' names from 3.14 on, cut to 15 bytes; before that all bear the program's."""
    names = []
    for one in (tid, pid):
        try:
            with open(f"/proc/{pid}/task/{one}/comm", encoding="utf-8", errors="replace") as opened:
                names.append(opened.read().strip())
        except OSError:
            return ""
    return names[0] if names[0] != names[1] else ""
