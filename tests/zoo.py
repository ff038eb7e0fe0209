"""The servers of hung/, hung_more/, healthy/ and situations/: start one, hang it, and prove that it hangs.

    with zoo.hang("sleep") as hung:
        hung.pid, hung.url, hung.truth.state, hung.truth.cause, hung.truth.marked

Each server says in plain constants what is true of it. This module reads them without importing the server:

    STATE, CAUSE  what a diagnosis must say
    TRIGGER       the paths to request, each COUNT times (once); or what is sent, as `POST /orders {"id": 7}`
    CLIENT        what the client does then: "waits" (stays connected), "leaves" after the first bytes of the
                  body, or "is answered" in full
    SIGNAL        the signal sent after that ("SIGINT"); the server must then close its port and not end
    SYMPTOM       the path that stops answering
    CONTROL       the path that still answers
    LOAD          the paths that clients of a healthy server ask again and again
    NEEDS_KERNEL  True where no stack can show the state, only what the machine says: sockets, or the number of CPUs
    STACKS        the state that stacks show without their sources, where that is another: "loop-blocked"
    VICTIMS       functions that wait for the marked line: what stacks without their sources name, and never for sure
    PROCESS       "child" where the marked line runs in a child of the server, whose stacks do not show it
    SERVER        "script" where the file itself serves and prints "Serving on URL"; else uvicorn runs its `app`
    READY         True where it never serves: it prints READY once it has come to where it stays. No request is sent
    RECOVERS      True where the look itself ends the hang: attaching interrupts a write
    LOOK          the only way in which its evidence is taken, where that is not the engine's own: record_bundles.py
    NEEDS         what it uses that may not be installed: "postgresql", whose address it gets as DATABASE_URL, or a
                  module or a program by its name; several with spaces in between

A comment `# <-- CAUSE` stands on every line that a diagnosis may name as the blocking frame.

What is in situations/ is hung for its evidence alone (record_bundles.py), and not under every Python and loop.

A server that would hide a module of the standard library from all the others has an underscore at the end of
its file's name, which is no part of its own: queue_.py is the server `queue`.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Callable

import psutil

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "notebooks"))

import lab
import postgres
import practice
import servers
from practice import SCRIPT, ask, request, silent  # noqa: F401  (how a server is brought to hang is told there)

ZooError = lab.LabError  # a server did not behave as its constants say

FOLDERS = ("hung", "hung_more", "healthy")
SITUATIONS = "situations"
PRINTED = re.compile("^(READY)$", re.M)
SETTLES = 0.7  # seconds that a program has to come from what it printed, or from a signal, to where it stays
MARK = "# <-- "
CONSTANTS = (
    "STATE",
    "CAUSE",
    "TRIGGER",
    "COUNT",
    "CLIENT",
    "SIGNAL",
    "SYMPTOM",
    "CONTROL",
    "LOAD",
    "NEEDS",
    "NEEDS_KERNEL",
    "STACKS",
    "VICTIMS",
    "PROCESS",
    "SERVER",
    "READY",
    "RECOVERS",
    "LOOK",
)


@dataclass(frozen=True)
class Truth:
    """What a server says of itself. `marked` holds (file, line) pairs, files relative to `folder`."""

    name: str
    folder: Path
    app: str
    state: str
    cause: str
    trigger: tuple[str, ...] = ()
    count: int = 1
    client: str = "waits"
    signal: str | None = None
    symptom: str | None = None
    control: str | None = None
    load: tuple[str, ...] = ()
    needs: str | None = None
    needs_kernel: bool = False
    stacks: str | None = None
    victims: tuple[str, ...] = ()
    process: str = "server"
    server: str = "uvicorn"
    ready: bool = False
    recovers: bool = False
    look: str = "whole"
    marked: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Hung:
    """A running server whose symptom was seen."""

    server: lab.Server
    truth: Truth

    @property
    def pid(self) -> int:
        return self.server.pid

    @property
    def ill(self) -> int:
        """The process that a dump must be taken of."""
        return self.pid if self.truth.process == "server" else lab.descendants(self.pid)[0]

    @property
    def url(self) -> str:
        return self.server.url

    def holds(self, seconds: float = 1.0) -> bool:
        if self.truth.ready:
            return not practice.ended(self.server)
        return practice.holds(self.server, self.truth, seconds)


def names(folder: str) -> tuple[str, ...]:
    """The servers of one of FOLDERS, by name."""
    found = [path.stem.rstrip("_") for path in (HERE / folder).glob("*.py")]
    return tuple(sorted(found + [path.parent.name for path in (HERE / folder).glob("*/main.py")]))


def truth(name: str) -> Truth:
    """Read a server's constants and marks. Causes (`http-client`) are names too.

    Raises LookupError for an unknown name, ValueError for a mark that is not the server's cause.
    """
    return truth_in(find(name.replace("-", "_")))


@cache  # hundreds of tests ask, and no server changes meanwhile
def truth_in(path: Path) -> Truth:
    package = path.name == "main.py"
    folder = path.parent.parent if package else path.parent
    said = constants(path.read_text())
    files = sorted(path.parent.rglob("*.py")) if package else [path]
    marked = []
    for file in files:
        for line, cause in marks(file.read_text()):
            if cause != said["cause"]:
                raise ValueError(f"{file}:{line} is marked {cause}, but CAUSE is {said['cause']}")
            marked.append((file.relative_to(folder).as_posix(), line))
    app = ".".join(path.relative_to(folder).with_suffix("").parts) + ":app"
    return Truth(path.parent.name if package else path.stem.rstrip("_"), folder, app, marked=tuple(marked), **said)


def server_of(dump: Path) -> Truth:
    """The server that a dump was taken of: its name's last word if that is one, else its folder's."""
    word = dump.name.split(".")[0].rpartition("-")[2]
    return truth(word if word in names("hung_more") + names("healthy") else dump.parent.name)


def missing(name: str) -> str | None:
    """Why this server cannot run here, in one sentence; None where it can."""
    needs = (truth(name).needs or "").split()
    away = [one for one in needs if one != "postgresql" and not (importlib.util.find_spec(one) or shutil.which(one))]
    if away:
        return f"{away[0]} is not installed here."
    return postgres.missing() if "postgresql" in needs else None


def find(name: str) -> Path:
    for folder in (*FOLDERS, SITUATIONS):
        for path in (HERE / folder / f"{name}.py", HERE / folder / f"{name}_.py", HERE / folder / name / "main.py"):
            if path.is_file():
                return path
    known = ", ".join(one for folder in (*FOLDERS, SITUATIONS) for one in names(folder))
    raise LookupError(f"No server is called {name!r}. There are: {known}")


def constants(source: str) -> dict:
    """The plain constants of a server, by lower-case name."""
    return {
        node.targets[0].id.lower(): ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) in CONSTANTS
    }


def marks(source: str) -> list[tuple[int, str]]:
    """(line, cause) of every mark in a Python source."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    return [(one.start[0], one.string[len(MARK) :]) for one in comments if one.string.startswith(MARK)]


@contextmanager
def hang(
    name: str,
    *,
    args: tuple[str, ...] = (),
    python: str = sys.executable,
    loop: str = "asyncio",
    under: str = "uvicorn",
    timeout: float = 20.0,
    env: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Hung]:
    """Start the server `name` under one of servers.KINDS, trigger it, and yield it once its symptom is really there.

    Beside a healthy worker no symptom shows: there the trigger's own silence is the proof. Server, children, clients
    and scratch files are gone afterwards, whatever happens inside. Raises ZooError when it does not start, or a healthy
    answer or the symptom does not come within `timeout` seconds, PostgresError when what it needs does not.
    """
    facts = truth(name)
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="zoo-"))
        env = {"TMPDIR": scratch, "NO_PROXY": "127.0.0.1", **env}
        if "postgresql" in (facts.needs or "").split():
            env["DATABASE_URL"] = stack.enter_context(postgres.running())
        server = start(facts, python, env, loop, args, under)
        stack.callback(server.log.unlink, missing_ok=True)
        stack.callback(server.stop, grace=0.0)
        if facts.ready:
            settle(server, facts)
            yield Hung(server, facts)
            return
        several = servers.KINDS[under].workers > 1
        practice.hang(
            server, facts, stack, timeout, facts.name, (lambda clients: all(map(silent, clients))) if several else None
        )
        yield Hung(server, facts)


def settle(server: lab.Server, facts: Truth) -> None:
    """Let a program that has printed READY come to where it stays; a signal comes after that."""
    time.sleep(SETTLES)
    if facts.signal:
        os.kill(server.pid, getattr(signal, facts.signal))
        time.sleep(SETTLES)


def start(facts: Truth, python: str, env: dict[str, str], loop: str, args: tuple[str, ...], under: str) -> lab.Server:
    if facts.ready:
        command = (
            [practice.script_of(facts.app)]
            if facts.server == "script"
            else ["-m", *servers.KINDS[under].command(facts.app, loop, postgres.free_port())]
        )
        return lab.launch([python, *command, *args], facts.folder, env, PRINTED, 20)
    if facts.server == "script":
        return practice.run(facts.server, facts.app, facts.folder, env, python, args)
    return servers.start(under, facts.folder, facts.app, loop=loop, args=args, python=python, env=env)


@contextmanager
def running(code: str, folder: Path | None = None) -> Iterator[subprocess.Popen]:
    """A Python that runs the code, once it has printed a line; it is ended with its children.

    With a folder the code is a file in it, app.py, whose lines the evidence then has.
    """
    program = ["-c", code]
    if folder is not None:
        (folder / "app.py").write_text(code)
        program = ["app.py"]
    with subprocess.Popen(
        [sys.executable, *program],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            process.stdout.readline()
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    """Whether all of these processes end within `seconds`; a zombie counts as ended."""
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], timeout: float, hung: Hung, what: str) -> None:
    practice.wait_until(condition, timeout, hung.server, f"{hung.truth.name} should {what}")
