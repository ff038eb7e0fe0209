"""From a pid or a port to the processes that do the work: supervisors only watch over their workers."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Callable, TypeVar

from hangdebug.capture import redact
from hangdebug.capture.interpreter.memory import Unreadable, mapped_files
from hangdebug.capture.interpreter.runtimes import (
    Runtime,
    holds_unnamed_python,
    is_packed,
    is_python,
    runtime_of,
)
from hangdebug.capture.proc import (
    accepts_connections,
    epolls_of_listeners,
    has_proc,
    holds_accepted_connection,
    is_hidden,
    psutil,
)
from hangdebug.capture.pyspy import FROM_INSIDE, ask_inside, is_running, not_permitted
from hangdebug.errors import HangError, MissingTool, NoProcess, NotPython, ours, to_install
from hangdebug.evidence.libraries import SERVER_PROGRAMS
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Process

Running = Any  # a psutil.Process: psutil has no types
T = TypeVar("T")

HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.semaphore_tracker", "multiprocessing.forkserver")
MOST_WORDS = 6
NO_PROC = "/proc is not mounted here, and nothing can be seen without it."
MOST_CHILDREN = 64


@dataclass(frozen=True)
class Target:
    """Which processes to look at. `workers` do the work; `supervisor` is the parent that watches them, or None."""

    workers: tuple[int, ...]
    supervisor: int | None = None


def parent_of(pid: int) -> int:
    return int(psutil.Process(pid).ppid())


def require_psutil() -> Any:
    """psutil. Raises MissingTool."""
    if psutil is None:
        raise MissingTool(
            "psutil is not installed.",
            "It finds the process behind a port, and a server's workers.",
            to_install("py-spy", "psutil"),
        )
    return psutil


def resolve(pid: int) -> Target:
    """The processes to look at for `pid`: itself, and the Python processes below it. Raises NoProcess, NotPython.

    Only its stacks tell a supervisor from a server that has a process pool: capture() goes on to the children of a
    process that runs no event loop. A launcher that is not Python (`sh -c uvicorn ...`, the boot loader of a frozen
    application) stands for the one server that it started, a server's master (Apache) for all its processes.
    """
    process = running_process(pid)
    if not is_python(pid):
        below = python_children(process) or [
            child for one in or_none(process.children) or () for child in python_children(one)
        ]
        if below and (len(below) == 1 or all(same_program(process, child) for child in below)):
            families = dict.fromkeys(one.pid for child in below for one in (child, *python_family(child)))
            return Target(tuple(families), pid if len(below) > 1 else below[0].pid if len(families) > 1 else None)
        if below or not holds_unnamed_python(pid):
            raise not_python(pid, below)
    children = tuple(child.pid for child in python_family(process))
    return Target((pid, *children), pid if children else None)


def same_program(one: Running, other: Running) -> bool:
    program = or_none(one.exe)
    return bool(program) and program == or_none(other.exe)


def not_python(pid: int, below: list[Running]) -> HangError:
    """Why `pid` cannot be read, and the way that remains."""
    if below:
        shown = "; ".join(f"{child.pid}: {short_command(child)}" for child in below[:8])
        return NotPython(
            f"Process {pid} is not a Python process.",
            f"It started several: {shown}.",
            f"{ours('diagnose', '--pid', below[0].pid)}   # or another of them",
        )
    try:
        found = runtime_of(pid)
    except Unreadable:
        return not_permitted(pid)
    if found is not None and found.kind != "CPython":
        return NotPython(
            f"Process {pid} runs {found.kind}, and py-spy reads no Python but CPython.",
            f"{found.file.path} is mapped there. {FROM_INSIDE}",
            ask_inside(pid),
        )
    if found is not None:
        return NotPython(
            f"Process {pid} could run Python, and does not: no interpreter was started in it.",
            f"{found.file.path} is mapped there. Another process of the same server may run it.",
            f"ps -o pid,ppid,args --ppid {pid}",
        )
    if is_packed(pid):
        return NotPython(
            f"The program of process {pid} is packed: what it runs shows neither in its file nor in its symbols.",
            f"If it is a Python application: {FROM_INSIDE}",
            ask_inside(pid),
        )
    return NotPython(f"Process {pid} is not a Python process.", "", "ps -ef | grep -i python")


def on_port(port: int) -> Target:
    """The processes that listen on a local TCP port. Raises NoProcess, or NotPermitted where they are hidden."""
    ps = require_psutil()
    try:
        all_rows = ps.net_connections("tcp")
    except ps.AccessDenied:  # macOS shows other processes' sockets to root only
        all_rows = [c for process in ps.process_iter() for c in connections(process)]
    there = [c for c in all_rows if c.laddr and c.laddr.port == port]
    rows = [c for c in there if c.status == ps.CONN_LISTEN]
    if not rows:
        held = next((pid for pid in (getattr(c, "pid", None) for c in there) if pid and is_python(pid)), None)
        if held is not None:
            who = f"Process {held} ({short_command(running_process(held))})"
            raise NoProcess(
                f"No process listens on port {port} any more.",
                f"{who} has a connection there still, and may be stopping.",
                ours("diagnose", "--pid", held),
            )
        raise NoProcess(
            f"No process listens on port {port}.",
            "The server ended, or listens elsewhere.",
            "ss -ltnp   # or: lsof -iTCP -sTCP:LISTEN",
        )
    pids = {row.pid for row in rows if getattr(row, "pid", None)} | socket_holders(port)
    if not pids:
        raise NoProcess(
            f"A process of another user listens on port {port}; its pid is not visible to you.",
            "",
            f"sudo ss -ltnp 'sport = :{port}'   # then: {ours('diagnose', '--pid', 'PID')}",
        )
    pids |= {master for pid in pids for master in masters_in_c(pid)} | {one for pid in pids for one in heir_of(pid)}
    parents = {pid for pid in pids if pids & {child.pid for child in python_children(running_process(pid))}}
    found = [resolve(root) for root in sorted(parents or pids)]
    family = dict.fromkeys(pid for one in found for pid in one.workers)
    others = (pid for pid in sorted(pids - set(family)) if is_python(pid))
    alone = found[0].supervisor if len(found) == 1 else None  # its children are the application's, or its workers
    return Target((*family, *others), min(parents, default=alone))


def heir_of(pid: int) -> Iterator[int]:
    """The process that multiprocessing started `pid` from: it may have closed the port which that one has inherited."""
    parent = or_none(running_process(pid).ppid)
    if not parent or not is_python(parent):
        return
    own, its = (or_none(running_process(one).cmdline) or [] for one in (pid, parent))
    if own == its or any("multiprocessing" in part for part in own):  # forked; spawned, or from a fork server
        yield parent


def masters_in_c(pid: int) -> Iterator[int]:
    """The processes above one of a server that is written in C, as long as they are the same server's.

    A router of uWSGI listens alone: only through their common master can it be seen for whom.
    """
    server = server_in_c(pid)
    parent = or_none(running_process(pid).ppid)
    while server and parent and server_in_c(parent) == server:
        yield parent
        parent = or_none(partial(parent_of, parent))


def server_in_c(pid: int) -> str:
    """The server written in C that holds a Python in `pid`, "" for none."""
    found = runtime_or_none(pid)
    return found.server if found else ""


def runtime_or_none(pid: int) -> Runtime | None:
    try:
        return runtime_of(pid)
    except Unreadable:
        return None


def socket_holders(port: int) -> set[int]:
    """Every process that holds the listening socket, for workers inherit it from their supervisor."""
    found = set()
    for process in require_psutil().process_iter():
        if any(c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port for c in connections(process)):
            found.add(process.pid)
    return found


def connections(process: Running) -> list[Any]:
    return or_none(lambda: process.net_connections("tcp")) or []


def running_process(pid: int) -> Running:
    """Raises NoProcess for a pid that is not running, or only a zombie."""
    ps = require_psutil()
    try:
        process = ps.Process(pid)
        if process.status() != ps.STATUS_ZOMBIE:
            return process
        why = "It has ended, and its parent has not collected its exit status yet."
        if len(list(Path(f"/proc/{pid}/task").glob("*"))) > 1:
            raise NoProcess(
                f"The main thread of process {pid} has ended, and others go on.",
                "The kernel shows neither its program nor its memory any more, so its Python cannot be found.",
                f"ls /proc/{pid}/task   # the threads that run; a debugger can attach to one: gdb -p TID",
            )
    except (ps.NoSuchProcess, ValueError, OverflowError):
        if is_running(pid) and is_hidden(pid):
            raise not_permitted(pid) from None
        why = "It ended, or the number is wrong." if has_proc() or sys.platform != "linux" else NO_PROC
    except ps.AccessDenied:
        raise not_permitted(pid) from None
    raise NoProcess(
        f"Process {pid} is not running.", why, f"ps -ef | grep -i python   # or: {ours('diagnose', '--port', 'PORT')}"
    )


def python_children(process: Running) -> list[Any]:
    """Children that run Python as workers do: not the trackers that multiprocessing starts beside them."""
    below = or_none(process.children) or []
    return [
        child for child in below if is_python(child.pid) and not any(word in command_line(child) for word in HELPERS)
    ]


def python_family(process: Running) -> list[Any]:
    """The same, with the children's children. A child that is not Python ends its branch."""
    found = python_children(process)
    for child in found:
        if len(found) < MOST_CHILDREN:
            found += python_children(child)
    return found


def command_line(process: Running) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def facts(pid: int, supervisor: int | None = None) -> Process:
    """What does not change between samples. Parts that this user may not see are None."""
    process = running_process(pid)
    with process.oneshot():
        line = command_line(process)
        parent = supervisor if supervisor != pid else None
        above = command_line(psutil.Process(parent)) if parent and psutil.pid_exists(parent) else ""
        runtime, sockets = runtime_or_none(pid), or_none(lambda: process.net_connections("all"))
        python = (runtime and runtime.version) or python_version(process)
        return Process(
            pid,
            short_command(process),
            python,
            (runtime and runtime.server) or server_of(f"{line} {above}"),
            parent,
            or_none(process.cwd),
            or_none(process.status),
            cpus(process, python),
            tuple(sorted({c.laddr.port for c in sockets or () if c.status == psutil.CONN_LISTEN})),
            accepts_connections(pid, sockets),
            holds_accepted_connection(pid, sockets),
            epolls_of_listeners(pid, sockets),
        )


def cpus(process: Running, python: str | None) -> int | None:
    """How many CPUs its Python counts, for the size of its default executor: from 3.13 on those it may run on."""
    minor = int((python or "3.0").partition(".")[2])
    allowed = or_none(process.cpu_affinity) if minor >= 13 and hasattr(process, "cpu_affinity") else None
    return len(allowed) if allowed else psutil.cpu_count()


def short_command(process: Running) -> str:
    """The program and what it serves, without what may be a secret."""
    return redact.clean_command(or_none(process.cmdline) or [], MOST_WORDS)


def server_of(line: str) -> str | None:
    return next((name for name in SERVER_PROGRAMS if name in line), None)


def python_version(process: Running) -> str | None:
    """ "3.11" from the name of the interpreter or of the library that it has loaded."""
    names = (found[1] for text in loaded_files(process) for found in [re.search(r"python(3\.\d+)", text)] if found)
    return next(names, None)


def loaded_files(process: Running) -> Iterator[str]:
    """The paths of its executable, and of the files that it has mapped."""
    yield or_none(process.exe) or ""
    try:
        yield from (one.path for one in mapped_files(process.pid).values())
    except Unreadable:  # no Linux; there psutil knows, which is slow on Linux: it asks for the size of each part
        yield from (one.path for one in or_none(getattr(process, "memory_maps", list)) or ())


def or_none(call: Callable[[], T]) -> T | None:
    """What `call` returns, None where the process has ended or hides it."""
    try:
        return call()
    except (psutil.Error, OSError):
        return None
