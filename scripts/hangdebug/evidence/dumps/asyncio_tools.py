"""Python 3.14's own tools: `python -m asyncio ps PID` (a table) and `python -m asyncio pstree PID` (a tree).

32581   0x7f93   save-1   Lock.acquire -> Store.audit -> Store.save   main   Task-1   0x7f92

└── (T) save-1
    └──  Store.save /srv/app.py:6
        └──  Lock.acquire /usr/lib/python3.14/asyncio/locks.py:110
"""

from __future__ import annotations

import re
from typing import Iterable

from hangdebug.evidence.dumps.grammar import python_of
from hangdebug.evidence.frames import UNKNOWN
from hangdebug.evidence.model import Frame, Snapshot, Task, Thread

ROW = re.compile(r"^\s{0,20}(?P<tid>\d{1,10})\s{1,40}(?P<id>0x[0-9a-f]{1,16})\s{1,40}(?P<rest>\S.*)$")
COLUMN = re.compile(r"\s{2,}")
CALLS = re.compile(r"[\w.<>-]{1,300}(?: -> [\w.<>-]{1,300})*")
BRANCH = re.compile(r"^[\s\u2500-\u257f|`+*>-]{0,400}?(?P<what>[^\s\u2500-\u257f|`+*>-].*)$")
CALL = re.compile(r"^(?P<function>[\w.<>-]{1,300})(?: (?P<file>[^\n]{1,1000}?):(?P<line>\d{1,9}))?$")

# The table names functions without their files: these are asyncio's own.
ASYNCIO = {
    **dict.fromkeys(["sleep", "wait_for", "wait", "_wait", "gather", "shield"], "asyncio/tasks.py"),
    **{f"Queue.{name}": "asyncio/queues.py" for name in ("get", "put", "join")},
    **{f"{kind}.acquire": "asyncio/locks.py" for kind in ("Lock", "Semaphore", "Condition")},
    **dict.fromkeys(
        ["Event.wait", "Condition.wait", "Barrier.wait", "_ContextManagerMixin.__aenter__"], "asyncio/locks.py"
    ),
    **{f"TaskGroup.{name}": "asyncio/taskgroups.py" for name in ("_aexit", "__aexit__")},
    **{f"Timeout.{name}": "asyncio/timeouts.py" for name in ("__aenter__", "__aexit__")},
    **{
        f"StreamReader.{name}": "asyncio/streams.py"
        for name in ("read", "readline", "readuntil", "readexactly", "_wait_for_data")
    },
    **{f"Server.{name}": "asyncio/base_events.py" for name in ("serve_forever", "wait_closed")},
}


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot that has tasks and no threads."""
    kept = list(lines)
    found = table(kept) or tree(kept)
    stacks = [Thread(task.frames) for task in found]
    return (Snapshot((), None, "", python_of(stacks), "python -m asyncio", (), tuple(found)),) if found else ()


def table(lines: list[str]) -> list[Task]:
    made = []
    for line in lines:
        row = ROW.match(line[:4000]) if "0x" in line[:80] else None
        if not row:
            continue
        name, *cells = COLUMN.split(row["rest"].strip(), 2)
        # A wide stack leaves one space before the awaiter's chain: the stack ends where no arrow follows.
        words = cells[0] if cells else ""
        calls = CALLS.match(words)
        if not calls or words.startswith("0x"):
            continue
        frames = tuple(Frame(one, ASYNCIO.get(one, UNKNOWN)) for one in calls[0].split(" -> "))
        made.append(Task(name, frames, frames[0].function, "", frames[-1].function))
    return made


def tree(lines: list[str]) -> list[Task]:
    """A task's frames stand below it, outermost first, up to the next task; a deeper task awaits nothing of it."""
    made: list[tuple[str, list[Frame]]] = []
    for line in lines:
        if "(T) " in line:
            made.append((line[:1000].split("(T) ", 1)[1].strip(), []))
        elif made and any(mark in line for mark in ("\u2514", "\u251c", "`--", "+--")):
            found = BRANCH.match(line[:2000])
            call = CALL.match(found["what"].strip()) if found else None
            if call and call["file"]:
                made[-1][1].append(Frame(call["function"], call["file"], int(call["line"]) or None))
    return [
        Task(
            name,
            tuple(reversed(frames)),
            frames[-1].function if frames else "",
            "",
            frames[0].function if frames else "",
        )
        for name, frames in made
    ]
