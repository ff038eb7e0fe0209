"""pystack, as `pystack remote PID` and `pystack core FILE` print it, `--native` and `--locals` as well.

    Traceback for thread 4284 (python3.11) [Has the GIL] (most recent call last):
        (Python) File "/srv/app/main.py", line 12, in confirm
            time.sleep(answer["retry_after"])

Frames of C code are left out: the causes are read from Python's.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Iterable

from hangdebug.evidence.dumps import grammar as stacks
from hangdebug.evidence.dumps import printouts
from hangdebug.evidence.dumps.grammar import Grammar, Head
from hangdebug.evidence.model import Frame, Snapshot

THREAD = re.compile(
    r"Traceback for thread (?P<id>\d{1,10})(?: \([^()]{0,64}\))?(?: \[(?P<state>[^\[\]]{0,200})\])?"
    r" \(most recent call (?P<order>first|last)\)"
)
NATIVE = re.compile(r"\((?:C|C\+\+|Rust|Other)\) {1,8}File ")


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a sample. The kernel's name of a thread ("python3.11") says nothing and is left out."""
    return stacks.read(lines, GRAMMAR)


def head(line: str) -> Head | None:
    found = THREAD.search(line[:500]) if "Traceback for thread" in line[:500] else None
    if not found:
        return None
    state = found["state"] or ""
    owns = "Has the GIL" in state if state else None
    return Head("thread", "", int(found["id"]), None, owns, found["order"])


def frames(line: str) -> list[Frame]:
    found = printouts.with_comma(line)
    return [replace(one, file="") for one in found] if "File " in line and NATIVE.search(line) else found


GRAMMAR = Grammar("pystack", head, frames, order="last", source=True)
