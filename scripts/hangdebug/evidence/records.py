"""Parts of an evidence bundle that are no dump: asyncio's tasks, and the functions that could end their waits.

    tasks-N.json     {"note": "", "at": 812.5, "tasks": [{"name": "Task-7", "state": "pending",
                                                          "waits_on": "Lock.acquire (locked 1, waiters 2)", ...}]}
    functions.json   [{"name": "give", "owner": "Mailbox", "file": "app/mail.py", "line": 12, "last": 15,
                       "root": false, "yields": false, "ends": [["notify_all", 15]], "calls": [],
                       "awaits": [["with self.cond", 13]], "loops": []}]

A bundle may come from anybody, or have been cut short: rows of another shape are left out.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from hangdebug.evidence.model import Awaited, Frame, Function, Task

TEXTS = ("name", "waits_on", "state", "coroutine")
NEEDED = {"name": str, "file": str, "line": int, "last": int}
OPTIONAL = {"owner": str, "root": bool, "yields": bool}
T = TypeVar("T", str, int)


# -- tasks-N.json --------------------------------------------------------------------------------------


def parse_tasks(text: str) -> tuple[tuple[Task, ...], str]:
    """The tasks, and what could not be read. Rows of another shape are left out."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return (), "the file of its asyncio tasks was cut short"
    rows = value.get("tasks") if isinstance(value, dict) else None
    note = value.get("note") if isinstance(value, dict) else None
    found = [parse_task(row) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return tuple(found), note if isinstance(note, str) else ""


def moment_of(text: str) -> float:
    """When the tasks were read, in seconds on a monotonic clock; 0 where that is not known."""
    try:
        return float(json.loads(text).get("at", 0))
    except (ValueError, RecursionError, AttributeError, TypeError):
        return 0.0


def parse_task(row: dict[str, Any]) -> Task:
    texts = {key: row[key] for key in TEXTS if isinstance(row.get(key), str)}
    return Task(
        texts.pop("name", ""),
        tuple(parse_frame(one) for one in list_at(row, "frames") if isinstance(one, dict)),
        **texts,
        id=row["id"] if type(row.get("id")) is int else None,
        awaits=parse_awaited(row.get("awaits")),
        inside=tuple(one for one in list_at(row, "inside") if type(one) is int),
        timed=row.get("timed") is True,
        ends=frozenset(one for one in list_at(row, "ends") if isinstance(one, str)),
        cancels=row["cancels"] if type(row.get("cancels")) is int else 0,
        holds=tuple(one for one in list_at(row, "holds") if isinstance(one, str)),
        expired=row.get("expired") is True,
        ready=row["ready"] if type(row.get("ready")) is int else 0,
        begun=row.get("begun") is True,
    )


def list_at(row: dict[str, Any], key: str) -> list[Any]:
    found = row.get(key)
    return found if isinstance(found, list) else []


def parse_frame(row: dict[str, Any]) -> Frame:
    line = row.get("line")
    return Frame(str(row.get("function", "?")), str(row.get("file", "?")), line if type(line) is int else None)


def parse_awaited(row: Any) -> Awaited | None:
    if not isinstance(row, dict) or type(row.get("id")) is not int:
        return None
    counts = row.get("counts")
    known = (
        {str(name): count for name, count in counts.items() if type(count) is int} if isinstance(counts, dict) else {}
    )
    of = tuple(one for one in list_at(row, "of") if type(one) is int)
    return Awaited(str(row.get("kind", "")), row["id"], str(row.get("method", "")), known, of)


# -- functions.json -----------------------------------------------------------------------------------


def parse_functions(text: str) -> tuple[Function, ...] | None:
    """The functions; None where not all are known, also where a row has another shape."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    rows = [parse_function(row) for row in value] if isinstance(value, list) else [None]
    known = tuple(one for one in rows if one is not None)
    return known if len(known) == len(rows) else None


def parse_function(row: Any) -> Function | None:
    if not isinstance(row, dict) or any(type(row.get(key)) is not kind for key, kind in NEEDED.items()):
        return None
    plain = {key: row[key] for key, kind in {**NEEDED, **OPTIONAL}.items() if type(row.get(key)) is kind}
    ends, calls, awaits = (parse_pairs(row.get(key), str) for key in ("ends", "calls", "awaits"))
    return Function(**plain, ends=ends, calls=calls, awaits=awaits, loops=parse_pairs(row.get("loops"), int))


def parse_pairs(value: Any, kind: type[T]) -> tuple[tuple[T, int], ...]:
    rows = value if isinstance(value, list) else []
    return tuple(
        (one[0], one[1])
        for one in rows
        if isinstance(one, list) and len(one) == 2 and type(one[0]) is kind and type(one[1]) is int
    )
