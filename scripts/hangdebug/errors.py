"""One exception class a situation. Each says what happened, why, and the exact next command."""

from __future__ import annotations


class HangError(Exception):
    """What the user is told: `what` happened, `why`, and the command to run `next`. Exit status 2."""

    def __init__(self, what: str, why: str = "", next: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.next = what, why, next

    def __str__(self) -> str:
        parts = [self.what, self.why and f"Why: {self.why}", self.next and f"Next: {self.next}"]
        return "\n".join(part for part in parts if part)


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


class ServiceFailed(HangError):
    """A bundled service did not start or did not answer."""
