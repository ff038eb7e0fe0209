"""faulthandler, from Python 3.8 to 3.15: a fatal signal, `dump_traceback`, `dump_traceback_later`.

Fatal Python error: Aborted

Thread 0x00007f3a5b7fe640 [ThreadPoolExecu] (most recent call first):     (names from 3.14 on)
  File "/srv/app/main.py", line 32 in fetch

Current thread 0x00007f3a6c1c3740 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 1139 in _wait_for_tstate_lock
"""

from __future__ import annotations

import re
from typing import Iterable

from hangdebug.evidence.dumps import grammar as stacks
from hangdebug.evidence.dumps import printouts
from hangdebug.evidence.dumps.grammar import Grammar, Head
from hangdebug.evidence.model import Snapshot

THREAD = re.compile(
    r"(?:^|\W)(?:Current thread|Thread) (?P<id>0x[0-9a-fA-F]{0,16}(?:\.{2,3}|\u2026)?)(?: \[(?P<name>[^\]]{1,64})\])?"
    r"(?: \((?P<order>most recent call (?:first|last))\))?:?(?:\s|$)"
)
ALONE = re.compile(r"(?:^|\W)Stack \(most recent call first\):")
BREAK = re.compile(r"(?:^|\W)(?:Fatal Python error: |Timeout \(\d{1,3}:\d\d:\d\d(?:\.\d{1,9})?\)!)")


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a sample: `dump_traceback_later(repeat=True)` prints several. Threads are named by address
    before 3.14; from then on by the kernel's name, which is cut to 15 characters and need not be theirs alone."""
    return stacks.read(lines, GRAMMAR)


def head(line: str) -> Head | None:
    line = line[:500]
    if "hread" in line:
        found = THREAD.search(line)
        if found:
            order = (found["order"] or "")[-5:].strip()
            whole = found["id"][-1] not in ".\u2026x"  # else cut short, and no longer its own
            return Head(
                "thread", found["name"] or (found["id"] if whole else ""), order=order, key=found["id"] if whole else ""
            )
    if "Stack (" in line and ALONE.search(line):
        return Head("thread", order="first", anonymous=True)
    return Head("break") if ("!" in line or "Fatal" in line) and BREAK.search(line) else None


GRAMMAR = Grammar("faulthandler", head, printouts.without_comma)
