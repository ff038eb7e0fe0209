"""A whole proof as it was asked for: start the server, replay, probe, end it and time that; on old code and on new.

    found = prove(Plan(["http://127.0.0.1:{port}/health"], start="uvicorn app.main:app --port {port}", exit="SIGINT"))
    print(compared(prove(plan, "old"), prove(plan, "new")))

Only what was started here is signalled: the process, and at the end its own session.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Callable
from urllib.parse import urlsplit, urlunsplit

from hangdebug.errors import BadRequest, ServiceFailed
from hangdebug.evidence.light import dataclass
from hangdebug.files import scratch_folder, uninterrupted
from hangdebug.repair.proof import curl, server
from hangdebug.repair.proof.curl import read_requests
from hangdebug.repair.proof.pressure import Check, Pressure, pressure
from hangdebug.repair.proof.verify import USAGE, Verification, verify, what_was_done

READY = 30.0  # seconds until a started server has to answer
LAST_LINES = 12  # of its log, that an error shows
PORT = "{port}"  # in a command and in a URL: a free port, the same in both
NEXT = f"{USAGE} --start 'python -m uvicorn app.main:app --port 8000'"


@dataclass(frozen=True)
class Plan:
    """What is to be proved, as verify() takes it. `files` are the names and texts of requests, each one a client.

    The `start` command is run for the proof; `exit` is the name of the signal that has to end it within `grace`
    seconds. With `concurrency` so many streams are left at once, again and again.
    """

    urls: Sequence[str]
    stream_url: str | None = None
    aborts: int = 5
    concurrency: int | None = None
    deadline: float = 2.0
    expect: tuple[int, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    times: int = 1
    together: bool = False
    pid: int | None = None
    allow_remote: bool = False
    start: str | None = None
    exit: str | None = None
    grace: float = 5.0


@dataclass(frozen=True)
class Running:
    """A server that was started here, and the file of its output."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid


def prove(plan: Plan, place: str | None = None, on_phase: Callable[[str], object] | None = None) -> Check:
    """Carry it out. `place` is where: the folder in which to start, or the URL of another server.

    Raises HangError where it cannot be carried out.
    """
    if plan.start is None:
        if plan.exit:
            raise BadRequest("End which server?", "--exit ends a server that --start has started, and no other.", NEXT)
        return replayed(plan if place is None else moved(plan, place), on_phase)
    folder = None if place is None else Path(place)
    if folder and not folder.is_dir():
        raise BadRequest(f"{place} is no folder.", "With --start, --compare names the folders to start it in.", NEXT)
    command, plan = on_a_free_port(plan.start, plan)
    with started(command, plan.urls[0], folder) as running:
        found = replayed(replace(plan, pid=running.pid), on_phase)
        return with_exit(found, *ended(running, signal.Signals[plan.exit], plan.grace)) if plan.exit else found


def replayed(plan: Plan, on_phase: Callable[[str], object] | None) -> Check:
    clients = [read_requests(text, name, plan.urls[0]) * plan.times for name, text in plan.files]
    if plan.concurrency and plan.stream_url:
        if clients:
            raise BadRequest("Streams or requests?", "--concurrency leaves streams; it replays no --request.", USAGE)
        return pressure(
            plan.urls,
            plan.stream_url,
            aborts=plan.aborts,
            concurrency=plan.concurrency,
            deadline=plan.deadline,
            expect=plan.expect,
            pid=plan.pid,
            allow_remote=plan.allow_remote,
            on_phase=on_phase or (lambda phase: None),
        )
    return verify(
        plan.urls,
        stream_url=plan.stream_url,
        aborts=plan.aborts,
        deadline=plan.deadline,
        expect=plan.expect,
        clients=clients,
        together=plan.together,
        pid=plan.pid,
        allow_remote=plan.allow_remote,
        on_phase=on_phase,
    )


def moved(plan: Plan, base: str) -> Plan:
    """The plan for another server: `base` gives the scheme, the host and the port."""
    there = urlsplit(base)

    def to(url: str) -> str:
        return urlunsplit((there.scheme, there.netloc, *urlsplit(url)[2:]))

    if not curl.is_url(base):
        raise BadRequest(f"{base!r} is not a URL.", "Without --start, --compare takes the URLs of two servers.", USAGE)
    return replace(plan, urls=[to(url) for url in plan.urls], stream_url=plan.stream_url and to(plan.stream_url))


def on_a_free_port(command: str, plan: Plan) -> tuple[str, Plan]:
    """The command and the URLs, with a free port where they leave one open."""
    port = str(free_port()) if PORT in command else PORT
    return command.replace(PORT, port), replace(
        plan,
        urls=[url.replace(PORT, port) for url in plan.urls],
        stream_url=plan.stream_url and plan.stream_url.replace(PORT, port),
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def started(command: str, url: str, folder: Path | None = None, ready: float = READY) -> Iterator[Running]:
    """Run `command` (no shell) in `folder` until the block ends, from the moment when `url` answers.

    Raises BadRequest where something else listens there, ServiceFailed where it ends or does not answer in time.
    """
    words = shlex.split(command)
    if not words:
        raise BadRequest("Start what?", "--start needs a command.", NEXT)
    if not curl.is_local(url):
        raise BadRequest(f"{url} is on another machine.", "What is started here answers here.", NEXT)
    if curl.probe([curl.probe_command(url, 1)], 1)[0].status is not None:
        raise BadRequest(
            f"Something else already listens at {url}.",
            "The probes would ask that, and not the server that is to be started.",
            f"ss -ltnp   # or let a free port be found: --start 'COMMAND --port {PORT}' --url http://127.0.0.1:{PORT}/",
        )
    with scratch_folder("verify-") as scratch:
        log = scratch / "server.log"
        process: subprocess.Popen[bytes] | None = None
        try:
            with uninterrupted(), log.open("wb") as output:
                process = spawn(words, folder, output.fileno())
            running = Running(process, log)
            wait_until_ready(running, url, ready)
            yield running
        finally:
            if process is not None:
                with uninterrupted():
                    end(process)


def spawn(words: list[str], folder: Path | None, output: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C is for us, and what it started can be ended with it
        )
    except OSError as error:
        where = f" in {folder}" if folder else ""
        raise ServiceFailed(f"{words[0]} cannot be run{where}.", error.strerror or str(error), NEXT) from error


def wait_until_ready(running: Running, url: str, ready: float) -> None:
    until = time.monotonic() + ready
    while time.monotonic() < until and running.process.poll() is None:
        if curl.probe([curl.probe_command(url, 1)], 1)[0].status is not None:
            return
        time.sleep(0.05)
    status = running.process.poll()
    what = f"did not answer at {url} within {ready:g} s" if status is None else f"ended with status {status}"
    log = running.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    raise ServiceFailed(
        f"The server that was started {what}.", "\n".join(["Its output ends:", *log]), "run the command by hand"
    )


def end(process: subprocess.Popen[bytes], grace: float = 1.0) -> None:
    """SIGTERM to the process, SIGKILL after `grace` seconds to its whole session, and to what it has started."""
    below = server.started_by(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    kill(server.still_there(below))
    process.wait()


def kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def ended(running: Running, number: signal.Signals, grace: float) -> tuple[str, str]:
    """Send the signal, and time the end: what was measured, or the fault where it took more than `grace` seconds."""
    threads, below = server.threads_at_work(running.pid), server.started_by(running.pid)
    began = time.monotonic()
    running.process.send_signal(number)
    try:
        running.process.wait(grace)
    except subprocess.TimeoutExpired:
        busy = f"; {threads} pool threads were at work, and the exit waits for them" if threads else ""
        return "", f"The process did not end within {grace:g} s of {number.name}{busy}."
    while (left := server.still_there(below)) and time.monotonic() < began + grace:
        time.sleep(0.02)
    if left:
        kill(left)
        return "", (
            f"The process ended, and {server.listed(left)}, which it had started, did not within {grace:g} s of "
            f"{number.name}: the signal went to the first alone. Where that is a shell, let it `exec` the server."
        )
    return f"It ended {time.monotonic() - began:.2f} s after {number.name} (grace {grace:g} s).", ""


def with_exit(check: Check, measured: str, fault: str) -> Check:
    """The check with what became of the exit."""
    found = verification_of(check)
    found = replace(
        found,
        measured=(*found.measured, *filter(None, [measured])),
        faults=(*found.faults, *filter(None, [fault])),
    )
    return replace(check, result=found) if isinstance(check, Pressure) else found


# -- the old code and the new ---------------------------------------------------------------------------


def verification_of(check: Check) -> Verification:
    return check.result if isinstance(check, Pressure) else check


def proved(old: Check, new: Check) -> bool:
    """Whether the replay tells the two apart: it fails on the old code, and passes on the new."""
    return not old.passed and new.passed


def compared(old: Check, new: Check, names: tuple[str, str] = ("old", "new")) -> str:
    """Both as one table, the verdict, and why each failed."""
    lines = [rows({name: verification_of(one) for name, one in zip(names, (old, new))})]
    if proved(old, new):
        lines.append("PROVED: the same replay fails on the old code and passes on the new.")
    elif new.passed:
        lines.append("NOT PROVED: the replay passes on the old code too, so it does not do what hung it.")
    else:
        lines.append("FAILED: the replay fails on the new code.")
    for name, one in zip(names, (old, new)):
        found = verification_of(one)
        lines += ["", f"{name}: {'passed' if one.passed else 'failed'}; {what_was_done(found)}."]
        lines += [f"- {line}" for line in (*found.faults, *found.notes, *found.measured)]
    return "\n".join(lines)


def rows(results: Mapping[str, Verification], more: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """A row for each verification; `more` are further columns, by name and then by row."""
    columns = more or {}
    head = ("", "probes", "failed", "slowest answer", "aborts", "requests", *columns)
    table = [head]
    for name, result in results.items():
        lost = any(not probe.ok and probe.status is None for probe in result.probes)
        slowest = "no answer" if lost else f"{max((probe.seconds for probe in result.probes), default=0):.3f} s"
        counts = (len(result.probes), len(result.failed), slowest, result.aborts, result.sent)
        table.append((name, *map(str, counts), *(column.get(name, "-") for column in columns.values())))
    widths = [max(map(len, column)) for column in zip(*table)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in table
    )
