"""What IPython and Jupyter print when a cell that hangs is interrupted: the way to the call that waited.

    Cell In[3], line 1                                        <ipython-input-3-de703de0c060> in <module>
    ----> 1 report.build(['north'])                           ----> 1 report.build(['north'])

    File /srv/app/report.py:9, in collect(region)             /srv/app/report.py in collect(region)
          8 # the answer comes from a thread                        8     # the answer comes from a thread
    ----> 9 DONE.wait()                                       ----> 9     DONE.wait()

The right column is IPython 7's way. The outermost call comes first; the numbered lines around the arrow are left out.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Iterable

from hangdebug.evidence.dumps.grammar import python_of
from hangdebug.evidence.model import Frame, Snapshot, Thread

FUNCTION = r"in (?P<function>[\w.<>]{1,300}|<cell line: \d{1,9}>)(?:\(.{0,1000})?$"
PLACE = r"(?P<file>(?:~|/|[A-Za-z]:\\)[^\n\"]{1,500}?|[^\s\"()]{1,200}\.pyx?|<[^<>]{1,200}>)"
HEADS = (
    re.compile(r"^\s{0,12}File " + PLACE + r":(?P<line>\d{1,9})(?:, " + FUNCTION + r"|$)"),
    re.compile(r"^\s{0,12}" + PLACE + " " + FUNCTION),
    re.compile(
        r"^\s{0,12}(?:Cell|Input) (?P<file>In ?\[\d{1,6}\])(?:, line (?P<line>\d{1,9}))?(?:, " + FUNCTION + r"|$)"
    ),
)
ARROW = re.compile(r"^\s{0,12}-{1,8}> ?(?P<line>\d{1,9})(?: (?P<text>.{0,1000}))?$")
AROUND = re.compile(r"^\s{0,20}\d{1,9}(?: |$)")


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot with one Thread for each traceback."""
    stacks: list[list[Frame]] = [[]]
    for line in lines:
        if "Traceback (most recent call last)" in line and stacks[-1]:
            stacks.append([])
        found = next((one for pattern in HEADS for one in [pattern.match(line[:2000])] if one), None)
        arrow = ARROW.match(line) if stacks[-1] and not found else None
        if found and not AROUND.match(line):
            stacks[-1].append(frame(found))
        elif arrow:
            last = stacks[-1][-1]
            text = last.text or (arrow["text"] or "").strip()
            stacks[-1][-1] = replace(last, line=last.line or int(arrow["line"]), text=text)
    threads = tuple(Thread(tuple(reversed(one))) for one in stacks if any(frame.line for frame in one))
    return (Snapshot(threads, None, "", python_of(threads), "IPython traceback"),) if threads else ()


def frame(found: re.Match[str]) -> Frame:
    groups = found.groupdict()
    function, line = groups.get("function") or "<module>", groups.get("line")
    file = groups["file"] if not groups["file"].startswith("In") else f"<ipython-{groups['file'].replace(' ', '')}>"
    return Frame("<module>" if function.startswith("<cell") else function, file, int(line) if line else None)
