"""One exception class a situation. Each says what happened, why, and the exact next command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


class HangError(Exception):
    """What the user reads: `what` happened, `why`, and the command to run `next`. Exit status 2."""

    def __init__(self, what: str, why: str = "", next: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.next = what, why, next

    def __str__(self) -> str:
        parts = [self.what, self.why and f"Why: {self.why}", self.next and f"Next: {self.next}"]
        return printable("\n".join(part for part in parts if part))


class NotADump(HangError):
    """The text holds no stack that a reader knows."""


class BadBundle(HangError):
    """The folder or archive is no evidence bundle, or a part of it cannot be read."""


class NoProcess(HangError):
    """The pid is not running, or no process listens on the port."""


class NotPython(HangError):
    """The process runs, but py-spy finds no Python interpreter in it."""


class NotPermitted(HangError):
    """The kernel does not let this user attach to the process."""


class MissingTool(HangError):
    """A program or package that this verb needs is not installed."""


class BadSource(HangError):
    """The source file cannot be read or parsed, so nothing was rewritten."""


class BadRequest(HangError):
    """The arguments do not fit together."""


class CannotWrite(BadRequest):
    """The disk is full, or the place may not be written to. What stood there before is still there."""


class ServiceFailed(HangError):
    """A bundled service did not start or did not answer."""


def printable(text: str) -> str:
    """Without control characters: a dump is untrusted, and a terminal obeys escape sequences and turns of direction."""
    return "".join(char if char in "\n\t" or char.isprintable() else "?" for char in text)


def to_install(*packages: str) -> str:
    """The command that gets `packages`, and then runs again what was asked for.

    Outside of a virtual environment it makes one: a distribution's own Python refuses pip (PEP 668).
    """
    python, script = sys.executable, Path(sys.argv[0])
    lines = []
    if sys.prefix == sys.base_prefix:
        python = "hang-env/bin/python"
        lines.append(f"{shlex.quote(sys.executable)} -m venv hang-env")
    lines.append(f"{shlex.quote(python)} -m pip install -q {' '.join(packages)}")
    if script.name == "hang.py":
        lines.append(f"{shlex.quote(python)} {shlex.join(sys.argv)}")
    return " && ".join(lines)
