"""Parts of an evidence bundle that are no dump: asyncio's tasks, who could end their waits, its sockets.

    tasks-N.json     {"note": "", "tasks": [{"name": "Task-7", "state": "pending", "waits_on": "Lock.acquire (locked 1, waiters 2)", ...}]}
    functions.json   [{"name": "give", "owner": "Mailbox", "file": "app/mail.py", "line": 12, "last": 15, "root": false, "yields": false,
                       "ends": [["notify_all", 15]], "calls": [], "awaits": [["with self.cond", 13]], "loops": []}]
    sockets.txt      range 32768 60999 | listened 1F40 | unix 41325 | epoll 5 7, a line each: what capture.sh leaves to be counted

A bundle may come from anybody, or have been cut short: rows of another shape are left out.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Iterator, Mapping

from hangdebug.evidence.kernel import CLOSE_WAIT, ESTABLISHED, LISTEN
from hangdebug.evidence.model import Awaited, Frame, Function, Process, Task

TEXTS = ("name", "waits_on", "state", "coroutine")
NEEDED = {"name": str, "file": str, "line": int, "last": int}
OPTIONAL = {"owner": str, "root": bool, "yields": bool}
NAMED = ("ends", "calls", "awaits")


# -- tasks-N.json --------------------------------------------------------------------------------------


def tasks(text: str) -> tuple[tuple[Task, ...], str]:
    """The tasks, and what could not be read. Rows of another shape are left out."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return (), "the file of its asyncio tasks was cut short"
    rows = value.get("tasks") if isinstance(value, dict) else None
    note = value.get("note") if isinstance(value, dict) else None
    found = [task(row) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return tuple(found), note if isinstance(note, str) else ""


def task(row: dict[str, Any]) -> Task:
    texts = {key: row[key] for key in TEXTS if isinstance(row.get(key), str)}
    return Task(
        texts.pop("name", ""),
        tuple(frame(one) for one in items(row, "frames") if isinstance(one, dict)),
        **texts,
        id=row["id"] if type(row.get("id")) is int else None,
        awaits=awaited(row.get("awaits")),
        inside=tuple(one for one in items(row, "inside") if type(one) is int),
        timed=row.get("timed") is True,
        ends=frozenset(one for one in items(row, "ends") if isinstance(one, str)),
        cancels=row["cancels"] if type(row.get("cancels")) is int else 0,
    )


def items(row: dict[str, Any], key: str) -> list:
    return row[key] if isinstance(row.get(key), list) else []


def frame(row: dict[str, Any]) -> Frame:
    line = row.get("line")
    return Frame(str(row.get("function", "?")), str(row.get("file", "?")), line if type(line) is int else None)


def awaited(row: Any) -> Awaited | None:
    if not isinstance(row, dict) or type(row.get("id")) is not int:
        return None
    counts = row.get("counts")
    known = (
        {str(name): count for name, count in counts.items() if type(count) is int} if isinstance(counts, dict) else {}
    )
    return Awaited(str(row.get("kind", "")), row["id"], str(row.get("method", "")), known)


# -- functions.json -----------------------------------------------------------------------------------


def functions(text: str) -> tuple[Function, ...] | None:
    """The functions; None where not all are known, also where a row has another shape."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    rows = [function(row) for row in value] if isinstance(value, list) else [None]
    return None if None in rows else tuple(rows)


def function(row: Any) -> Function | None:
    if not isinstance(row, dict) or any(type(row.get(key)) is not kind for key, kind in NEEDED.items()):
        return None
    plain = {key: row[key] for key, kind in {**NEEDED, **OPTIONAL}.items() if type(row.get(key)) is kind}
    lists = {key: pairs(row.get(key), str) for key in NAMED}
    return Function(**plain, **lists, loops=pairs(row.get("loops"), int))


def pairs(value: Any, kind: type) -> tuple:
    rows = value if isinstance(value, list) else []
    return tuple(
        (one[0], one[1])
        for one in rows
        if isinstance(one, list) and len(one) == 2 and type(one[0]) is kind and type(one[1]) is int
    )


# -- sockets.txt --------------------------------------------------------------------------------------


def with_sockets(process: Process, text: str, files: Mapping[int, str], net: str) -> Process:
    """`process` with where it listens, and whether it holds a connection that it accepted: as a live capture finds out with psutil."""
    said = [line.split() for line in text.splitlines()]
    unix = {words[1] for words in said if words[0] == "unix" and len(words) == 2}
    listened = {number(words[1], 16) for words in said if words[0] == "listened" and len(words) == 2}
    handed_out = next(
        ((number(words[1]), number(words[2])) for words in said if words[0] == "range" and len(words) == 3), (0, 0)
    )
    rows = [words for words in map(str.split, net.splitlines()) if len(words) > 9 and words[0].endswith(":")]
    ours = {target[8:-1]: fd for fd, target in files.items() if target.startswith("socket:[")}
    own = [words for words in rows if words[9] in ours]
    listeners = {ours[words[9]] for words in own if words[3] == LISTEN} | {ours[inode] for inode in unix & ours.keys()}
    watched = [(number(words[1]), number(words[2])) for words in said if words[0] == "epoll" and len(words) == 3]
    seen = {fd for _, fd in watched} if watched else listeners
    ports = {port(words[1]) for words in own if words[3] == LISTEN}
    return replace(
        process,
        listening=tuple(sorted(ports)),
        listens=bool(listeners & seen),
        served=any(accepted(own, ports, listened, handed_out)),
        polls=tuple(sorted({epoll for epoll, fd in watched if fd in listeners})),
    )


def accepted(own: list[list[str]], ports: set[int], listened: set[int], handed_out: tuple[int, int]) -> Iterator[bool]:
    """Whether each open connection was accepted on a port of which the process no longer listens. No table says who opened it:
    its own port is none that the kernel hands out, or the other end is on this machine and nobody listens there."""
    low, high = handed_out
    for words in own:
        here, there = port(words[1]), port(words[2])
        if words[3] in (ESTABLISHED, CLOSE_WAIT) and here not in ports:
            same = words[1].rpartition(":")[0] == words[2].rpartition(":")[0]
            yield not low <= here <= high or same and there not in listened


def port(address: str) -> int:
    return number(address.rpartition(":")[2], 16)


def number(text: str, base: int = 10) -> int:
    """-1 for what is none: a bundle may come from anybody."""
    try:
        return int(text, base)
    except ValueError:
        return -1
