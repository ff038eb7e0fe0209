"""One stack a line, outermost call first, as profilers write it for flame graphs.

    thread (15154): MainThread;main (uvicorn/main.py:448);fetch (app/main.py:32) 17            py-spy record -f raw
    P2790;T0:2790;/srv/app/main.py:<module>:20;/usr/lib/python3.11/asyncio/runners.py:run:190 100098     austin

A recording is many moments: the Snapshot shows each thread's commonest stack, and `skipped` says what it left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Optional

from hangdebug.evidence import light as re
from hangdebug.evidence.dumps.grammar import LONGEST_SKIPPED, MOST_SKIPPED, python_of
from hangdebug.evidence.model import Frame, Snapshot, Thread

WEIGHT = re.compile(r" (?P<weight>\d{1,18})\s*$")
PYSPY = re.compile(r"^(?P<function>[^()]{1,300}) \((?P<file>[^()\n]{1,1000}?)(?::(?P<line>\d{1,9}))?\)$")
AUSTIN = re.compile(r"^(?P<file>.{1,1000}):(?P<function>[\w.<>$-]{1,300}):(?P<line>\d{1,9})$")
PROCESS = re.compile(r"^(?:P(?P<pid>\d{1,10})|process (?P<number>\d{1,10}).*)$")
THREAD = re.compile(
    r"^(?:T(?:\d{1,4}:)?(?P<id>\w{1,20})|"
    r"thread \((?P<tid>\w{1,20})\)(?:: (?P<name>.{0,200}))?|(?P<only>MainThread))$"
)

TOP = re.compile(  # a row of py-spy top: %Own %Total OwnTime TotalTime Function (filename)
    r"^\s{0,8}(?P<own>\d{1,3}\.\d\d)%\s+(?P<total>\d{1,3}\.\d\d)%\s+[\d.]{1,12}s\s+[\d.]{1,12}s\s+"
    r"(?P<function>[^()]{1,300}) \((?P<file>[^()\n]{1,500}?)(?::(?P<line>\d{1,9}))?\)\s*$"
)
HALF = 50.0  # percent

ThreadKey = tuple[Optional[int], str, Optional[int]]  # pid, name, the kernel's id
Key = tuple[Optional[int], str, Optional[int], Optional[tuple[Frame, ...]]]  # and its stack, where it has no name
Stacks = Counter[tuple[Frame, ...]]


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a process, its threads in the order of the text."""
    kept = list(lines)
    rows = [one for line in kept for one in [TOP.match(line[:1000])] if one]
    if rows:
        return top(rows)
    found: dict[Key, Stacks] = {}
    skipped: list[str] = []
    for line in kept:
        one = stack(line) if ";" in line and "; " not in line else None
        if one is not None:
            key, frames, weight = one
            found.setdefault(key_of_thread(key, frames), Counter())[frames] += weight
        elif line.strip() and len(skipped) < MOST_SKIPPED:
            skipped.append(line.strip()[:LONGEST_SKIPPED])
    pids = list(dict.fromkeys(key[0] for key in found))
    return tuple(
        snapshot(pid, {key: stacks for key, stacks in found.items() if key[0] == pid}, skipped) for pid in pids
    )


def top(rows: list[re.Match[str]]) -> tuple[Snapshot, ...]:
    """What a table of shares shows of the one thread that it sums up: the functions in which most of the time is spent.

    Whoever is called by another has at most its share, so the innermost have the smallest, and of equals most of it
    themselves.
    """
    most = [row for row in rows if float(row["total"]) > HALF]
    rising = sorted(most, key=lambda row: (float(row["total"]), -float(row["own"])))
    frames = tuple(Frame(row["function"], row["file"], int(row["line"] or 0) or None) for row in rising)
    kept = (Thread(frames, active=True),) if frames else ()
    return (Snapshot(kept, None, "", python_of(kept), "py-spy top"),) if kept else ()


def profile(text: str) -> tuple[tuple[Thread, int], ...]:
    """The same as it was recorded: each stack with its count. Lines of another shape are left out."""
    found = (stack(line) for line in text.splitlines())
    return tuple((Thread(frames, name, os_id), weight) for (_, name, os_id), frames, weight in filter(None, found))


def snapshot(pid: int | None, found: dict[Key, Stacks], skipped: list[str]) -> Snapshot:
    threads, rarer = [], []
    for (_, name, os_id, _), stacks in found.items():
        (frames, weight), total = stacks.most_common(1)[0], sum(stacks.values())
        threads.append(Thread(frames, name, os_id))
        if len(stacks) > 1:
            rarer.append(
                f"{len(stacks) - 1} other stacks of thread {name or os_id or '?'}, "
                f"{1 - weight / max(total, 1):.0%} of its time"
            )
    kept = tuple(threads)
    return Snapshot(kept, pid, "", python_of(kept), "collapsed stacks", tuple([*rarer, *skipped][:MOST_SKIPPED]))


def stack(line: str) -> tuple[ThreadKey, tuple[Frame, ...], int] | None:
    """The (pid, name, kernel's id) of the thread, its frames innermost first, and the weight; None for another line."""
    weight = WEIGHT.search(line[-24:])
    parts = (line[: -len(weight[0])] if weight else line).strip().split(";")
    pid, name, os_id = None, "", None
    while parts:
        process, thread = PROCESS.match(parts[0][:400]), THREAD.match(parts[0][:400])
        if process:
            pid = int(process["pid"] or process["number"])
        elif thread:
            name = (thread["name"] or thread["only"] or name).strip()
            name, os_id = identity(name, thread["id"] or thread["tid"], os_id)
        else:
            break
        parts.pop(0)
    frames = [one for one in map(frame, parts) if one is not None]
    if not frames or len(frames) < len(parts) / 2 or (len(parts) < 2 and pid is None and os_id is None and not name):
        return None
    return (pid, name, os_id), tuple(reversed(frames)), int(weight["weight"]) if weight else 1


def key_of_thread(key: ThreadKey, frames: tuple[Frame, ...]) -> Key:
    """`key`, or where the line names no thread, what tells it from others: each started thread by its stack."""
    if key[1] or key[2] is not None:
        return (*key, None)
    return (*key, frames if any(one.name == "_bootstrap" for one in frames) else None)


def identity(name: str, number: str | None, os_id: int | None) -> tuple[str, int | None]:
    """A decimal number is the kernel's id if it can be one; an address stands for the name."""
    if number and number.isdecimal() and int(number) < 1 << 32:
        return name, int(number)
    return name or number or "", os_id


def frame(part: str) -> Frame | None:
    found = PYSPY.match(part) or AUSTIN.match(part) if len(part) < 1400 else None
    if not found:
        return None
    number = int(found["line"]) if found["line"] else None
    return Frame(found["function"], found["file"], number or None)
