"""gdb with Python's extension: `thread apply all py-bt`, `py-bt`, and the Python frames of a plain `bt`.

Thread 3 (Thread 0x7f2e477136c0 (LWP 15153) "python"):
Traceback (most recent call first):
  File "/srv/app/main.py", line 32, in fetch
    return requests.get(url).text

#5 Frame 0x7f2e48, for file /srv/app/main.py, line 32, in fetch (topic='sport')
"""

from __future__ import annotations

import re
from typing import Iterable

from hangdebug.evidence.dumps import grammar as stacks
from hangdebug.evidence.dumps import printouts
from hangdebug.evidence.dumps.grammar import Grammar, Head
from hangdebug.evidence.model import Frame, Snapshot

THREAD = re.compile(
    r"(?:^|\W)Thread \d{1,6} "
    r"\((?:Thread 0x[0-9a-f]{1,16} )?\(?LWP (?P<id>\d{1,10})\)?(?: \"[^\"]{0,64}\")?\)"
)
LIST = re.compile(r"(?:^|\W)Traceback \(most recent call (?P<order>first|last)[^)]{0,40}\):")
FRAME = re.compile(r"\bfor file (?P<file>[^,\n]{1,1000}), line (?P<line>\d{1,9}), in (?P<function>[\w.<>]{1,300})")


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a sample, its threads known by the kernel's id (LWP)."""
    return stacks.read(lines, GRAMMAR)


def head(line: str) -> Head | None:
    line = line[:500]
    found = THREAD.search(line) if "LWP" in line else None
    if found:
        return Head("thread", "", int(found["id"]))
    words = LIST.search(line) if "most recent call" in line else None
    return Head("thread", order=words["order"], anonymous=True) if words else None


def frames(line: str) -> list[Frame]:
    if "for file " in line:
        found = FRAME.search(line)
        return [Frame(found["function"], found["file"], int(found["line"]) or None)] if found else []
    return printouts.with_comma(line)


GRAMMAR = Grammar("gdb", head, frames, source=True)
