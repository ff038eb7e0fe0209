"""tasks-N.json of an evidence bundle: asyncio's tasks as they were read from the target's memory.

    {"note": "", "tasks": [{"name": "Task-7", "state": "pending", "waits_on": "Lock.acquire (locked 1, waiters 2)", ...}]}
"""

from __future__ import annotations

import json
from typing import Any

from hangdebug.model import Awaited, Frame, Task

TEXTS = ("name", "waits_on", "state", "coroutine")


def tasks(text: str) -> tuple[tuple[Task, ...], str]:
    """The tasks, and what could not be read. Rows of another shape are left out: a bundle may come from anybody."""
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
        texts.pop("name", ""), tuple(frame(one) for one in items(row, "frames") if isinstance(one, dict)), **texts,
        id=row["id"] if type(row.get("id")) is int else None, awaits=awaited(row.get("awaits")),
        inside=tuple(one for one in items(row, "inside") if type(one) is int), timed=row.get("timed") is True,
        ends=frozenset(one for one in items(row, "ends") if isinstance(one, str)),
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
    known = {str(name): count for name, count in counts.items() if type(count) is int} if isinstance(counts, dict) else {}
    return Awaited(str(row.get("kind", "")), row["id"], str(row.get("method", "")), known)
