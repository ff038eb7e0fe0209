"""Run py-spy, and say in one line what its errors mean."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

from hangdebug.errors import HangError, MissingTool, NoProcess, NotPermitted, NotPython, to_install

TIMEOUT = 10.0
ATTEMPTS = 3
# What py-spy prints when it looks while the interpreter changes what it looks at; a moment later it succeeds.
PASSING_ERRORS = (
    "Failed to find a python interpreter",
    "Failed to get stack traces",
    "Failed to copy",
    "Failed to find python version",
)


def program() -> str:
    """The path of py-spy: beside this interpreter (a virtual environment), or on PATH. Raises MissingTool."""
    beside = Path(sys.executable).parent / "py-spy"
    found = str(beside) if beside.is_file() else shutil.which("py-spy")
    if not found:
        raise MissingTool(
            "py-spy is not installed.",
            "It reads the stacks of a running process from outside.",
            to_install("py-spy", "psutil"),
        )
    return found


def version() -> str:
    """Such as "0.4.3"."""
    done = subprocess.run([program(), "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip().rpartition(" ")[2]


def dump(pid: int) -> str:
    """One dump as JSON. The target is paused while its stacks are read, for some milliseconds.

    Raises NoProcess, NotPermitted, NotPython, or HangError with py-spy's first line.
    """
    for attempt in range(ATTEMPTS):
        done = run_pyspy(pid, ["dump", "--json", "--pid", str(pid)])
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout
        if not any(word in done.stderr for word in PASSING_ERRORS):
            break
        time.sleep(0.1 * (attempt + 1))
    raise error_of(pid, done.stderr)


def record(
    pid: int,
    rate: int,
    seconds: float = 1.0,
    idle: bool = True,
    interrupted: Callable[[KeyboardInterrupt], object] | None = None,
) -> str:
    """Sample for some seconds at `rate` a second: collapsed stacks, with `idle` of sleeping threads too.

    Where `interrupted` is given, Ctrl-C ends the sampling early: it is called, and what was sampled so far is returned.
    Raises as `dump` does.
    """
    with tempfile.TemporaryDirectory(prefix="hang-") as folder:
        file = Path(folder) / "profile.raw"
        words = [
            "record",
            "--pid",
            str(pid),
            "--duration",
            str(max(1, math.ceil(seconds))),
            "--rate",
            str(rate),
            "--format",
            "raw",
            "--threads",
            *(["--idle"] if idle else []),
            "--output",
            str(file),
        ]
        done = run_pyspy(pid, words, seconds + TIMEOUT, interrupted)
        if file.is_file():
            return file.read_text(errors="replace")
        if interrupted and done.returncode < 0 or "no samples" in done.stderr.lower():
            return ""
        raise error_of(pid, done.stderr)


def run_pyspy(
    pid: int,
    words: list[str],
    timeout: float = TIMEOUT,
    interrupted: Callable[[KeyboardInterrupt], object] | None = None,
) -> subprocess.CompletedProcess[str]:
    try:
        with subprocess.Popen(
            [program(), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as spy:
            return wait_for_output(spy, timeout, interrupted)
    except subprocess.TimeoutExpired:
        raise HangError(
            f"py-spy gave no answer about process {pid} within {timeout:g} s.",
            "It may be in a state in which it cannot be traced.",
            f"cat /proc/{pid}/status",
        ) from None
    except OSError as error:
        raise MissingTool(
            f"{program()} cannot be run.",
            error.strerror or str(error),
            f"{sys.executable} -m pip install --force-reinstall py-spy",
        ) from error


def wait_for_output(
    spy: subprocess.Popen[str], timeout: float, interrupted: Callable[[KeyboardInterrupt], object] | None
) -> subprocess.CompletedProcess[str]:
    """Its output and status. With `interrupted`, Ctrl-C asks it to write what it has. Nothing is left running."""
    try:
        try:
            output, errors = spy.communicate(timeout=timeout)
        except KeyboardInterrupt as stop:
            if interrupted is None:
                raise
            spy.send_signal(signal.SIGINT)
            output, errors = spy.communicate(timeout=TIMEOUT)
            interrupted(stop)
    except BaseException:
        spy.kill()
        raise
    return subprocess.CompletedProcess(spy.args, spy.returncode, output, errors)


def error_of(pid: int, stderr: str) -> HangError:
    """py-spy prints a Rust backtrace; this is what it means."""
    text = stderr.lower()
    if not is_running(pid):
        return NoProcess(f"Process {pid} is not running.", "It ended, or the number is wrong.", "ps -ef | grep python")
    if "permission denied" in text or "operation not permitted" in text or "os error 1)" in text:
        return not_permitted(pid)
    if is_python(pid):
        return HangError(
            f"py-spy does not find the interpreter inside of process {pid}.",
            first_line(stderr),
            f"{program()} dump --pid {pid}   # again; it fails on processes with thousands of threads",
        )
    if "python version" in text or "python interpreter" in text or "libpython" in text:
        return NotPython(
            f"Process {pid} is not a Python process that py-spy can read.",
            first_line(stderr),
            f"ps -o pid,ppid,args -p {pid}; ps -o pid,args --ppid {pid}",
        )
    return HangError(f"py-spy could not read process {pid}.", first_line(stderr), f"{program()} dump --pid {pid}")


def not_permitted(pid: int) -> NotPermitted:
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    allowed = scope.read_text().strip() if scope.is_file() else "0"
    why = "It runs as another user, or in a container without the SYS_PTRACE capability."
    if allowed != "0":
        why = f"kernel.yama.ptrace_scope is {allowed}: only a process's ancestor, or root, may attach to it."
    entry = [sys.executable, os.path.abspath(sys.argv[0])] if Path(sys.argv[0]).name == "hang.py" else None
    verb = "record" if entry and sys.argv[1:2] == ["record"] else "capture"
    again = (
        f"sudo {shlex.join(entry) if entry else 'python scripts/hang.py'} {verb} --pid {pid}   # root: your decision"
    )
    return NotPermitted(f"The kernel does not let you attach to process {pid}.", why, again)


def is_python(pid: int) -> bool:
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("python")
    except OSError:
        return False


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return pid < 1 << 31
    return True


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "It gave no reason.")
