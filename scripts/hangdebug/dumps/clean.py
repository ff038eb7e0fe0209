"""Take off what terminals, chats and log collectors put around a dump, and nothing of the dump itself."""

from __future__ import annotations

import re

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
QUOTED = re.compile(r"^(?:> ?)+")
STAMP = re.compile(r"^(?:\[?pod/\S+\]? )?\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]? ?")
FENCE = re.compile(r"^\s*(?:```|~~~)\S*\s*$")


def clean(text: str) -> list[str]:
    """The lines of `text` without colours, carriage returns, quoting, time stamps and markdown fences."""
    text = ANSI.sub("", text.lstrip("\ufeff")).replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ")
    lines = [line.expandtabs(4).rstrip() for line in text.split("\n")]
    lines = strip_where_common(lines, QUOTED)
    lines = strip_where_common(lines, STAMP)
    return [line for line in lines if not FENCE.match(line)]


def strip_where_common(lines: list[str], prefix: re.Pattern[str]) -> list[str]:
    """Without `prefix`, if it starts at least half of the lines that hold anything."""
    filled = [line for line in lines if line.strip()]
    if not filled or 2 * sum(bool(prefix.match(line)) for line in filled) < len(filled):
        return lines
    return [prefix.sub("", line) for line in lines]
