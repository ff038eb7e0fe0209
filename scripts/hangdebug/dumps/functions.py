"""functions.json of an evidence bundle: the application's functions that could end a wait, and those that lead to one.

    [{"name": "give", "owner": "Mailbox", "file": "app/mail.py", "line": 12, "last": 15, "root": false, "yields": false,
      "ends": [["notify_all", 15]], "calls": [], "awaits": [["with self.cond", 13]], "loops": []}]
"""

from __future__ import annotations

import json
from typing import Any

from hangdebug.model import Function

NEEDED = {"name": str, "file": str, "line": int, "last": int}
OPTIONAL = {"owner": str, "root": bool, "yields": bool}
NAMED = ("ends", "calls", "awaits")


def functions(text: str) -> tuple[Function, ...] | None:
    """The functions; None where not all are known, also where a row has another shape: a bundle may come from anybody."""
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
    return tuple((one[0], one[1]) for one in rows
                 if isinstance(one, list) and len(one) == 2 and type(one[0]) is kind and type(one[1]) is int)
