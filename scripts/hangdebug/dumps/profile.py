"""A profile as `py-spy record --format raw` writes it: one stack a line, outermost first, and how often it was seen.

    thread (4284): MainThread;main (uvicorn/main.py:448);handler (app.py:12) 167
"""

from __future__ import annotations

import re

from hangdebug.model import Frame, Thread

FRAME = re.compile(r"^(?P<function>.+?) \((?P<file>.+?)(?::(?P<line>\d+))?\)$")
THREAD = re.compile(r"^thread \((?P<id>0x[0-9A-Fa-f]+|\d+)\)(?:: (?P<name>.*))?$")
PROCESS = re.compile(r"^process \d+")


def profile(text: str) -> tuple[tuple[Thread, int], ...]:
    """Each stack, innermost frame first, with its count. Lines of another shape are left out."""
    found = []
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        if stack and count.isdigit():
            found.append((thread(stack.split(";")), int(count)))
    return tuple(found)


def thread(parts: list[str]) -> Thread:
    os_id, name = None, ""
    frames: list[Frame] = []
    for part in parts:
        head, frame = THREAD.match(part), FRAME.match(part)
        if head and not frames:
            number = int(head["id"], 0)
            os_id, name = number if number < 1 << 32 else None, head["name"] or ""
        elif frame and not PROCESS.match(part):
            frames.append(Frame(frame["function"], frame["file"], int(frame["line"]) if frame["line"] else None))
    return Thread(tuple(reversed(frames)), name, os_id)
