"""austin's `austin --where PID`: py-spy's frames below a head of its own, outermost call first.

    🐒 Process 1085 🧵 Thread 0:1085

        <module> (/srv/app/main.py:20)
        run (/usr/lib/python3.11/asyncio/runners.py:190)

Its recordings are collapsed stacks: collapsed.py.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Iterable

from hangdebug.evidence.dumps import grammar as stacks
from hangdebug.evidence.dumps import pyspy_text
from hangdebug.evidence.dumps.grammar import Grammar, Head
from hangdebug.evidence.model import Snapshot

THREAD = re.compile(r"Process (?P<pid>\d{1,10})\W{1,20}Thread (?:\d{1,4}:)?(?P<id>\w{1,20})\s*$")
PYTHON = re.compile(r"Python version: (?P<version>[\d.]{1,20})")


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a sample. Threads are known by the kernel's id."""
    kept = list(lines)
    pid = next((int(one["pid"]) for line in kept for one in [THREAD.search(line[:400])] if one), None)
    if pid is None:
        return ()
    return tuple(replace(one, pid=pid) for one in stacks.read(kept, GRAMMAR))


def head(line: str) -> Head | None:
    line = line[:400]
    found = THREAD.search(line) if "Process" in line else None
    if found:
        number = found["id"]
        decimal = number.isdigit() and int(number) < 1 << 32
        return Head("thread", "" if decimal else number, int(number) if decimal else None)
    python = PYTHON.search(line) if "Python" in line else None
    return Head("python", python["version"]) if python else None


GRAMMAR = Grammar("austin --where", head, pyspy_text.frames, order="last")
