"""One exception class a situation. Each says what happened, why, and the exact next command."""

from __future__ import annotations

import os
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


called_as: list[str] = []  # how to call it, where this process works for a program on another machine


def our_program(root: bool = False) -> tuple[str, ...]:
    """The words that call this program again from any folder: as it was called now, else as it is installed.

    `root` is for another user's PATH, such as that of sudo: then the program is named by its place.
    """
    if called_as:
        return tuple(called_as)
    import shutil  # only to print a command: a bare answer should start fast

    called, beside = Path(sys.argv[0] or "-"), Path(__file__).resolve().parents[1] / "hang.py"
    if called.stem == "hang" and called.suffix != ".py":  # what pip, pipx and uv put on the PATH
        found = shutil.which("hang")
        if found and os.path.realpath(found) == os.path.realpath(called) and not root:
            return ("hang",)
        return (os.path.abspath(called),)
    if beside.is_file():  # the skill's folder, or a checkout
        return (sys.executable, str(beside))
    return (sys.executable, "-m", "hangdebug")


def our_name() -> str:
    """What the program calls itself in help and errors: "hang", or "hang.py" where it runs from its folder."""
    return "hang.py" if our_program()[-1].endswith("hang.py") else "hang"


def ours(*words: object, root: bool = False) -> str:
    """A command line of this program that a person can paste into a shell: `ours("diagnose", "--pid", 4284)`."""
    return shlex.join([*our_program(root), *map(str, words)])


def to_install(*packages: str) -> str:
    """The command that gets `packages`, and then runs again what was asked for.

    Outside of a virtual environment it makes one: a distribution's own Python refuses pip (PEP 668).
    """
    from importlib.util import find_spec

    python, program = sys.executable, our_program()
    script = program[1] if program[1:] and program[1] != "-m" else ""
    lines = []
    if script and sys.prefix == sys.base_prefix:
        python = "hang-env/bin/python"
        lines.append(f"{shlex.quote(sys.executable)} -m venv hang-env")
    if script or find_spec("pip"):
        lines.append(f"{shlex.quote(python)} -m pip install -q {' '.join(packages)}")
    else:  # as uv makes environments
        lines.append(f"uv pip install --python {shlex.quote(python)} -q {' '.join(packages)}")
    if Path(sys.argv[0]).name in ("hang", "hang.py", "__main__.py"):
        lines.append(shlex.join([*([python, script] if script else program), *sys.argv[1:]]))
    return " && ".join(lines)
