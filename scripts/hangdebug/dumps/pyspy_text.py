"""py-spy's text, as `py-spy dump` prints it from 0.2 to 0.4: bare names, or qualified ones from 0.4.3 on.

    Process 4284: python -m uvicorn app.main:app
    Python v3.11.7 (/usr/bin/python3.11)

    Thread 4284 (idle): "MainThread"
        Thread.join (threading.py:1119)
"""

from __future__ import annotations

import re
from typing import Iterable, Iterator

from hangdebug.model import Frame, Snapshot, Thread

PROCESS = re.compile(r"^\s*Process (?P<pid>\d+): ?(?P<command>.*)$")
PYTHON = re.compile(r"^\s*Python v(?P<version>[\d.]+\S*)")
THREAD = re.compile(
    r"^\s*Thread (?P<id>0x[0-9a-fA-F]+|\d+)(?: ?\((?P<state>[a-z+ ]+)\))?(?:: ?\"(?P<name>.*?)\")?:?(?P<note>\s+\S.*)?$"
)
FRAME = re.compile(
    r"^\s*(?P<function>[^\s(\"'`][^(\"'`]{0,300}?) "
    r"\((?P<file><[^<>\"']{1,300}>|[^\"']{1,500}?)(?::(?P<line>\d+))?\)(?P<note>\s+\S.*)?$"
)
LOCALS = re.compile(r"^\s*(?:Arguments|Locals):$")
SOURCE_FILE = re.compile(r"\.(?:py|pyx|pyc|so|dylib|dll|c|cpp|rs)\b|^<.*>$|^[\w.+-]+$")


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a process header, in order; stacks before any header belong to an unnamed process."""
    return tuple(snapshots(lines))


def snapshots(lines: Iterable[str]) -> Iterator[Snapshot]:
    draft = Draft()
    for line in lines:
        process = PROCESS.match(line)
        if process and draft.stacks:
            yield draft.snapshot()
            draft = Draft()
        draft.take(line)
    if draft.stacks:
        yield draft.snapshot()


class Draft:
    """The process that is being read. `indent` is the depth of its frames: deeper lines are locals."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.command = ""
        self.python: str | None = None
        self.stacks: list[tuple[re.Match[str] | None, list[Frame]]] = []
        self.skipped: list[str] = []
        self.in_locals: int | None = None

    def take(self, line: str) -> None:
        indent = len(line) - len(line.lstrip())
        if self.in_locals is not None and indent > self.in_locals:
            return
        self.in_locals = None
        if not line.strip():
            return
        process, python, thread = PROCESS.match(line), PYTHON.match(line), THREAD.match(line)
        if process:
            self.pid, self.command = int(process["pid"]), process["command"]
        elif python:
            self.python = python["version"]
        elif thread:
            self.stacks.append((thread, []))
        elif LOCALS.match(line):
            self.in_locals = indent
        elif not self.take_frame(line):
            self.skipped.append(line.strip())

    def take_frame(self, line: str) -> bool:
        found = FRAME.match(line)
        if not found or not (found["line"] or SOURCE_FILE.search(found["file"])):
            return False
        if not self.stacks:
            if not found["line"]:  # prose before the dump: "see below (app.py)"
                return False
            self.stacks.append((None, []))
        number = int(found["line"]) if found["line"] else None
        note = (found["note"] or "").strip()
        self.stacks[-1][1].append(Frame(found["function"], found["file"], number or None, note))
        return True

    def snapshot(self) -> Snapshot:
        threads = tuple(thread(head, frames) for head, frames in self.stacks)
        return Snapshot(threads, self.pid, self.command, self.python, "py-spy text", tuple(self.skipped))


def thread(head: re.Match[str] | None, frames: list[Frame]) -> Thread:
    if head is None:
        return Thread(tuple(frames))
    state = head["state"] or ""
    active = None if not state else "active" in state
    number = int(head["id"], 0)
    os_id = number if number < 1 << 32 else None  # a pthread address, not a kernel id
    return Thread(tuple(frames), head["name"] or "", os_id, active, "gil" in state if state else None)
