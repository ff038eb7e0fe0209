"""Run py-spy, and say in one line what its errors mean."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from hangdebug.errors import HangError, MissingTool, NoProcess, NotPermitted, NotPython

TIMEOUT = 10.0


def program() -> str:
    """The path of py-spy: beside this interpreter (a virtual environment), or on PATH. Raises MissingTool."""
    beside = Path(sys.executable).parent / "py-spy"
    found = str(beside) if beside.is_file() else shutil.which("py-spy")
    if not found:
        raise MissingTool("py-spy is not installed.", "It reads the stacks of a running process from outside.",
                          f"{sys.executable} -m pip install py-spy psutil")
    return found


def version() -> str:
    """Such as "0.4.3"."""
    done = subprocess.run([program(), "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip().rpartition(" ")[2]


def dump(pid: int) -> str:
    """One dump as JSON. The target is paused while its stacks are read, for some milliseconds.

    Raises NoProcess, NotPermitted, NotPython, or HangError with py-spy's first line.
    """
    command = [program(), "dump", "--json", "--pid", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise HangError(f"py-spy gave no answer about process {pid} within {TIMEOUT:g} s.",
                        "It may be in a state in which it cannot be traced.", f"cat /proc/{pid}/status") from None
    if done.returncode == 0 and done.stdout.strip():
        return done.stdout
    raise explain(pid, done.stderr)


def explain(pid: int, stderr: str) -> HangError:
    """py-spy prints a Rust backtrace; this is what it means."""
    text = stderr.lower()
    if not exists(pid):
        return NoProcess(f"Process {pid} is not running.", "It ended, or the number is wrong.", "ps -ef | grep python")
    if "permission denied" in text or "operation not permitted" in text or "os error 1)" in text:
        return not_permitted(pid)
    if "python version" in text or "python interpreter" in text or "libpython" in text:
        return NotPython(f"Process {pid} is not a Python process that py-spy can read.",
                         first_line(stderr), f"ps -o pid,ppid,args -p {pid}; ps -o pid,args --ppid {pid}")
    return HangError(f"py-spy could not read process {pid}.", first_line(stderr), f"{program()} dump --pid {pid}")


def not_permitted(pid: int) -> NotPermitted:
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    allowed = scope.read_text().strip() if scope.is_file() else "0"
    why = "It runs as another user, or in a container without the SYS_PTRACE capability."
    if allowed != "0":
        why = f"kernel.yama.ptrace_scope is {allowed}: only a process's ancestor, or root, may attach to it."
    entry = Path(sys.argv[0]).name == "hang.py" and f"{sys.executable} {os.path.abspath(sys.argv[0])}"
    again = f"sudo {entry or 'python scripts/hang.py'} capture --pid {pid}   # asks for root: your decision"
    return NotPermitted(f"The kernel does not let you attach to process {pid}.", why, again)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return pid < 1 << 31
    return True


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "It gave no reason.")
