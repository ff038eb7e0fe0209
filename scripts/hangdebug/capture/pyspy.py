"""Run py-spy, and say in one line what its errors mean."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Callable

from hangdebug.capture import proc
from hangdebug.capture.interpreter.runtimes import holds_unnamed_python, is_python
from hangdebug.errors import HangError, MissingTool, NoProcess, NotPermitted, NotPython, ours, to_install
from hangdebug.evidence import light as re
from hangdebug.files import scratch_folder, uninterrupted

TIMEOUT = 10.0
PATIENCE = 3.0  # seconds in which a look that failed by chance is repeated
MOST_PAUSE = 0.2
# Seconds between two looks at whether the run ends, and those that py-spy then has to let go of its target.
LOOK, LOOKS_AFTER, LAST_CHANCE = 0.25, 5, 1.0
ending = threading.Event()
# What py-spy prints when it looks while the interpreter changes what it looks at; a moment later it succeeds.
PASSING_ERRORS = (
    "Failed to find a python interpreter",
    "Failed to get stack traces",
    "Failed to copy",
    "Failed to find python version",
    "perhaps at a bad moment",
)
NO_THREAD = "it found no thread that could run Python, perhaps at a bad moment"
VERSION = re.compile(r"py-spy[\w-]*\s+v?(\d+\.\d+[\w.+-]*)$")
CRASHED_BY, NONSENSE = "it was ended by", "it printed no list of threads, but"
CRASHED = re.compile(rf"{CRASHED_BY} SIG\w+|panicked at")
OPTION_UNKNOWN = re.compile(
    r"(?:unexpected|unrecognized|invalid) argument|Found argument .* which wasn't expected", re.I
)
UNSUPPORTED = re.compile(r"unsupported (?:version of )?python(?: version)?:? *(.*)", re.I)
FROM_INSIDE = (
    "It can print its stacks itself: `faulthandler.register(signal.SIGUSR1, all_threads=True)` in its code, or its "
    "server's own debug option."
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
    again = f"{shlex.quote(program())} --version   # and, if need be: {to_install('py-spy')}"
    try:
        done = subprocess.run(
            [program(), "--version"],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise MissingTool(f"py-spy does not say its version within {TIMEOUT:g} s.", program(), again) from None
    except OSError as error:
        raise MissingTool(f"{program()} cannot be run.", error.strerror or str(error), again) from error
    found = VERSION.match(done.stdout.strip())
    if found is None:
        raise MissingTool(f"{program()} is no py-spy.", f"It says: {first_line(done.stdout + done.stderr)}", again)
    return found[1]


def dump(pid: int, missed: Callable[[str], object] = lambda why: None) -> str:
    """One dump as JSON. The target is paused while its stacks are read, for some milliseconds.

    A look can fail by chance, beside a process whose stack changes all the time: it is repeated for PATIENCE seconds,
    and `missed` is called with what py-spy said of each that failed.
    Raises NoProcess, NotPermitted, NotPython, or HangError with py-spy's first line.
    """
    began, failed = time.monotonic(), 0
    while True:
        done = run_pyspy(pid, ["dump", "--json", *without_pause(pid), "--pid", str(pid)])
        trouble = trouble_with(pid, done)
        if trouble is None:
            return done.stdout
        failed += 1
        passing = any(word in trouble for word in PASSING_ERRORS) and is_running(pid) and is_python(pid)
        if not passing or time.monotonic() - began > PATIENCE:
            raise error_of(pid, trouble, failed)
        missed(first_line(trouble))
        time.sleep(min(MOST_PAUSE, 0.02 * failed))


def trouble_with(pid: int, done: subprocess.CompletedProcess[str]) -> str | None:
    """What is wrong with what py-spy gave, in its words or ours; None where it is a dump."""
    if done.returncode < 0:
        return f"{CRASHED_BY} {signal.Signals(-done.returncode).name}"
    if done.returncode != 0 or not done.stdout.strip():
        return done.stderr or f"py-spy ended with status {done.returncode} and printed nothing"
    try:
        rows = json.loads(done.stdout)
    except (ValueError, RecursionError):
        rows = None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "frames" in row for row in rows):
        return f"{NONSENSE}: {first_line(done.stdout)[:80]}"
    return None if rows else NO_THREAD


def without_pause(pid: int) -> list[str]:
    """The option to read `pid` as it runs, where it cannot be paused: only one process may trace it at a time."""
    return ["--nonblocking"] if proc.tracer_of(pid) or proc.cannot_be_paused(pid) else []


def dump_native(pid: int) -> str:
    """The same with the frames of C and of compiled code, once: it is paused for longer. Raises as `dump` does."""
    if without_pause(pid):
        raise HangError(
            f"Process {pid} cannot be paused now.",
            "Another process traces it, or one of its threads is in a wait that nobody can interrupt.",
            f"grep -E 'State|TracerPid' /proc/{pid}/task/*/status   # the same command again tries again",
        )
    done = run_pyspy(pid, ["dump", "--native", "--json", "--pid", str(pid)])
    trouble = trouble_with(pid, done)
    if trouble is not None:
        raise error_of(pid, trouble)
    return done.stdout


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
    with scratch_folder() as folder:
        file = folder / "profile.raw"
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
            *without_pause(pid),
            *(["--idle"] if idle else []),
            "--output",
            str(file),
        ]
        done = run_pyspy(pid, words, seconds + TIMEOUT, interrupted)
        if file.is_file():
            return file.read_text(errors="replace")
        if (interrupted and done.returncode < 0) or "no samples" in done.stderr.lower():
            return ""
        raise error_of(pid, done.stderr)


def run_pyspy(
    pid: int,
    words: list[str],
    timeout: float = TIMEOUT,
    interrupted: Callable[[KeyboardInterrupt], object] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Its output and status. With `interrupted`, Ctrl-C asks it to write what it has. Nothing is left running.

    A session of its own keeps the terminal's Ctrl-C from it: an old py-spy that is ended while it attaches leaves the
    target stopped.
    """
    spy: subprocess.Popen[str] | None = None
    stopped = is_stopped(pid)
    try:
        with uninterrupted():
            spy = subprocess.Popen(
                [program(), *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        try:
            output, errors = wait_for_output(spy, timeout)
        except KeyboardInterrupt as stop:
            if interrupted is None:
                raise
            spy.send_signal(signal.SIGINT)
            output, errors = wait_for_output(spy, TIMEOUT)
            interrupted(stop)
        return subprocess.CompletedProcess(spy.args, spy.returncode, output, errors)
    except subprocess.TimeoutExpired:
        raise HangError(
            f"py-spy gave no answer about process {pid} within {timeout:g} s.",
            "It was ended. The process may be in a state in which it cannot be traced, or holds very many threads.",
            f"cat /proc/{pid}/status   # its State and Threads; the same command again tries again",
        ) from None
    except OSError as error:
        raise MissingTool(
            f"{program()} cannot be run.",
            error.strerror or str(error),
            f"{sys.executable} -m pip install --force-reinstall py-spy",
        ) from error
    finally:
        with uninterrupted():
            if spy is not None and spy.poll() is None:
                end(spy, pid, stopped)


def wait_for_output(spy: subprocess.Popen[str], timeout: float) -> tuple[str, str]:
    """What it printed on both streams. Raises TimeoutExpired, sooner where the run is being ended."""
    until = time.monotonic() + timeout
    while True:
        try:
            return spy.communicate(timeout=max(0.01, min(LOOK, until - time.monotonic())))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= until or ending.is_set():
                raise


def end(spy: subprocess.Popen[str], pid: int, stopped: bool) -> None:
    """End a py-spy that runs, once it had time to let go of its target; one that is left stopped is let go on."""
    try:
        spy.communicate(timeout=LAST_CHANCE)
    except subprocess.TimeoutExpired:
        spy.kill()
        with suppress(subprocess.TimeoutExpired):  # one that waits for a file system that does not answer ends later
            spy.communicate(timeout=LAST_CHANCE)
        for _ in range(LOOKS_AFTER):
            if not stopped and is_stopped(pid):
                os.kill(pid, signal.SIGCONT)
            time.sleep(LOOK / LOOKS_AFTER)


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped it, which is not the pause of a tracer."""
    return (proc.text_of(f"/proc/{pid}/stat") or "").rpartition(") ")[2].startswith("T")


def error_of(pid: int, stderr: str, failed: int = 1) -> HangError:
    """py-spy prints a Rust backtrace; this is what it means. `failed` is how often it was tried."""
    text = stderr.lower()
    if not is_running(pid):
        return NoProcess(f"Process {pid} is not running.", "It ended, or the number is wrong.", "ps -ef | grep python")
    if "permission denied" in text or "operation not permitted" in text or "os error 1)" in text:
        tracer = proc.tracer_of(pid)
        return traced(pid, *tracer) if tracer else not_permitted(pid)
    unsupported = UNSUPPORTED.search(stderr)
    if unsupported:
        return NotPython(
            f"Process {pid} runs a Python that this py-spy does not know.",
            first_line(unsupported[0]),
            to_install("--upgrade", "py-spy"),
        )
    root = proc.chroot_of(pid)
    if root and "no such file" in text:
        return HangError(
            f"Process {pid} runs in a chroot, where py-spy does not find its files.",
            f"Its root is {root}: py-spy looks there for the files as they are named outside of it.",
            f"sudo chroot {shlex.quote(root)} py-spy dump --json --pid {pid} > dump.json"
            f" && {ours('diagnose', 'dump.json')}   # it takes py-spy and /proc in there",
        )
    own = fault_of_its_own(pid, stderr)
    if own is not None:
        return own
    if is_python(pid):
        tries = f"{failed} looks at different moments failed" if failed > 1 else "One look failed"
        return HangError(
            f"py-spy could not read the stacks of process {pid}.",
            f"{tries}; py-spy says: {first_line(stderr)}",
            f"{program()} dump --pid {pid}   # its own words; a newer py-spy may know this Python",
        )
    if holds_unnamed_python(pid):
        return NotPython(
            f"The program of process {pid} was stripped: py-spy does not find the Python inside of it.",
            f"py-spy says: {first_line(stderr)}. {FROM_INSIDE}",
            ask_inside(pid),
        )
    if "python version" in text or "python interpreter" in text or "libpython" in text:
        return NotPython(
            f"Process {pid} is not a Python process that py-spy can read.",
            first_line(stderr),
            f"ps -o pid,ppid,args -p {pid}; ps -o pid,args --ppid {pid}",
        )
    return HangError(f"py-spy could not read process {pid}.", first_line(stderr), f"{program()} dump --pid {pid}")


def fault_of_its_own(pid: int, stderr: str) -> HangError | None:
    """What is py-spy's fault, or its version's, and not the target's."""
    again, newer = f"{program()} dump --pid {pid}   # its own words", to_install("--upgrade", "py-spy")
    if OPTION_UNKNOWN.search(stderr):
        return MissingTool("This py-spy is too old: it does not know an option of today's.", first_line(stderr), newer)
    if CRASHED.search(stderr):
        why = f"{first_line(stderr)}. The process itself goes on."
        return HangError(f"py-spy crashed while it read process {pid}.", why, f"{newer}   # or see: {again}")
    if stderr.startswith(NONSENSE):
        return HangError(f"What py-spy printed about process {pid} cannot be read.", stderr, again)
    return None


def ask_inside(pid: int) -> str:
    """The way that remains where py-spy cannot read a Python."""
    risk = "your decision, and only with that line in its code: else it ends the process"
    return f"kill -USR1 {pid}   # {risk}. Then: {ours('diagnose', 'dump.txt')}"


def not_permitted(pid: int) -> NotPermitted:
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    allowed = scope.read_text().strip() if scope.is_file() else "0"
    why = "It runs as another user, or in a container without the SYS_PTRACE capability."
    if allowed != "0":
        why = f"kernel.yama.ptrace_scope is {allowed}: only a process's ancestor, or root, may attach to it."
    if proc.is_hidden(pid):
        why = "It runs as another user, and /proc shows you no processes but your own (it is mounted with hidepid)."
    verb = "record" if sys.argv[1:2] == ["record"] else "capture"
    again = f"sudo {ours(verb, '--pid', pid, root=True)}   # root: your decision"
    return NotPermitted(f"The kernel does not let you attach to process {pid}.", why, again)


def traced(pid: int, tracer: int, command: str) -> NotPermitted:
    return NotPermitted(
        f"Process {pid} is traced by process {tracer} ({command}).",
        "The kernel lets one process at a time pause another one, whoever asks: that process has to let go first.",
        f"ps -o pid,ppid,user,args -p {tracer}   # detach or end it there, then the same command again",
    )


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
