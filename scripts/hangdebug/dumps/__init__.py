"""Read what people paste: one module a format, told apart by content."""

from __future__ import annotations

from hangdebug.dumps import pyspy_json, pyspy_text
from hangdebug.dumps.clean import clean
from hangdebug.errors import NotADump
from hangdebug.model import Snapshot

READERS = (pyspy_json, pyspy_text)
NEXT = "py-spy dump --pid PID > dump.txt && python scripts/hang.py diagnose dump.txt"


def read(text: str) -> tuple[Snapshot, ...]:
    """The snapshots in `text`, in the order in which they stand: several processes, or several samples of one.

    Raises NotADump when no reader finds a frame.
    """
    lines = clean(text)
    for reader in READERS:
        found = tuple(s for s in reader.read(lines) if any(thread.frames for thread in s.threads))
        if found:
            return found
    what = "There is no stack in this text." if text.strip() else "There is no text: the input is empty."
    raise NotADump(what, "None of its lines looks like a frame of a py-spy dump (text or JSON).", NEXT)
