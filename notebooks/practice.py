"""Practice: servers that hang, each in its own way, whose cause you are to find.

    practice.cases()                     one line a case: the symptom, and no more
    with practice.start(7) as case:      the server runs, and hangs
        case.pid, case.url, case.title   as much as a colleague would tell you
        practice.check(case, "sleep")    right or not, the blocking line, and what happened

The servers come out of practice.json, without the comments, docstrings and names that would tell. They run in a
folder of their own, which goes when they are stopped. How a server is brought to hang, and how that is seen, the
project's own tests take from here too.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import select
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import lab
from hangdebug.causes import CAUSES

CATALOGUE = Path(__file__).with_name("practice.json")
SCRIPT = re.compile(r"Serving on (http://[\d.]+:\d+)")  # what a server other than uvicorn prints
TIMEOUT = 20.0  # seconds for a server to start, and for it to hang
ASK_FIRST = "practice.cases()"
READING = {
    "loop-blocked": "easy",
    "loop-busy": "easy",
    "threadpool-exhausted": "medium",
    "sync-worker-blocked": "medium",
    "exit-hang": "medium",
}


# -- the catalogue -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A server, how it is brought to hang, and the truth about it. `marked` are the lines (file, number) that block.

    TRIGGER and the like are explained where the servers are kept: `trigger` are the paths to ask `count` times each,
    `client` what the client does then, `signal` what is sent after that; `symptom` is the path that no longer
    answers, `control` one that still does. `needs` are modules and programs beyond those of the demo.
    """

    app: str
    files: Mapping[str, str]
    state: str
    cause: str
    story: str
    marked: tuple[tuple[str, int], ...] = ()
    trigger: tuple[str, ...] = ()
    count: int = 1
    client: str = "waits"
    signal: str | None = None
    symptom: str | None = None
    control: str | None = None
    server: str = "uvicorn"
    needs: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        if self.signal:
            return f"after {self.signal} it does not end"
        if not self.symptom:
            return f"users say that it hangs; GET {self.control or '/health'} answers"
        return f"GET {self.symptom} gives no answer{f', GET {self.control} does' if self.control else ''}"

    @property
    def before(self) -> str:
        """What was asked of it before, as the access log has it."""
        asked = [path.partition("?")[0] for path in dict.fromkeys(self.trigger)]
        times = f", {self.count} times" if self.count > 1 else ""
        return f", after GET {' and '.join(asked)}{times}" if asked else ""

    @property
    def difficulty(self) -> str:
        """By how much one has to read: one stack, several of them, or who waits for whom."""
        return READING.get(self.state, "hard")

    @property
    def missing(self) -> str:
        """What keeps it from running here, "" where nothing does."""
        away = [need for need in self.needs if importlib.util.find_spec(need) is None]
        return f"needs {', '.join(away)}: {Path(sys.executable).name} -m pip install {' '.join(away)}" if away else ""


@lru_cache(maxsize=1)
def catalogue() -> tuple[Case, ...]:
    rows = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    return tuple(
        Case(
            **{
                **row,
                **{name: tuple(row.get(name, ())) for name in ("trigger", "needs")},
                "marked": tuple(map(tuple, row["marked"])),
            }
        )
        for row in rows
    )


def cases() -> list[str]:
    """What is known of each case before anybody looked: "case 4, easy: GET /health gives no answer, after GET /buy"."""
    return [
        f"case {number}, {one.difficulty}: {one.title}{one.before}{f' ({one.missing})' if one.missing else ''}"
        for number, one in enumerate(catalogue(), 1)
    ]


def guesses() -> list[str]:
    """What a cause may be, in alphabetical order: the order of the engine would help."""
    return sorted(cause.id for cause in CAUSES)


# -- one case ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Running:
    """A case whose server hangs now. `folder` holds its source; `truth` is what you are to find out."""

    number: int
    server: lab.Server
    folder: Path
    truth: Case
    undo: ExitStack

    @property
    def pid(self) -> int:
        return self.server.pid

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def title(self) -> str:
        return f"case {self.number}: {self.truth.title}"

    def stop(self) -> None:
        """End the server by its pid, and drop its folder. Once is enough, twice does no harm."""
        self.undo.close()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def __str__(self) -> str:
        return f"{self.title}\npid {self.pid}, {self.url}, source in {self.folder}"


def start(number: int) -> Running:
    """Start a case, bring it to hang, and see that it does. Raises LabError where it cannot run or does not hang."""
    known = catalogue()
    if not 1 <= number <= len(known):
        raise lab.LabError(f"There is no case {number}; there are 1 to {len(known)}.\nNext: {ASK_FIRST}")
    truth = known[number - 1]
    if truth.missing:
        raise lab.LabError(f"Case {number} {truth.missing}\nNext: that command, or another case: {ASK_FIRST}")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="practice-")))
        folder = written(truth.files, scratch / "code")
        (scratch / "tmp").mkdir()
        env = {"TMPDIR": str(scratch / "tmp"), "NO_PROXY": "127.0.0.1"}
        server = run(truth.server, truth.app, folder, env)
        stack.callback(server.stop, grace=0.0)
        hang(server, truth, stack, TIMEOUT, f"case {number}")
        return Running(number, server, folder, truth, stack.pop_all())


def written(files: Mapping[str, str], folder: Path) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def run(
    kind: str, app: str, folder: Path, env: dict[str, str], python: str = sys.executable, args: Sequence[str] = ()
) -> lab.Server:
    """uvicorn with asyncio's loop, or a script that is a server of its own."""
    if kind == "script":
        return lab.launch([python, script_of(app), *args], folder, env, SCRIPT, TIMEOUT)
    return lab.start(folder, app, args=("--loop", "asyncio", *args), env=env, python=python)


def script_of(app: str) -> str:
    return app.partition(":")[0].replace(".", "/") + ".py"


@dataclass(frozen=True)
class Answer:
    """What became of a guess: `right` or not, and the truth, to be read."""

    right: bool
    guess: str
    state: str
    cause: str
    file: str
    line: int | None
    source: str
    story: str
    explanation: str

    def __str__(self) -> str:
        head = f"Right: {self.cause}." if self.right else f"Not {self.guess}: {self.cause}."
        where = [f"{self.file}:{self.line}: {self.source}"] if self.line else ["No line blocks."]
        return "\n\n".join([f"{head} ({self.state})", *where, self.story, self.explanation])


def check(case: Running, guess: str) -> Answer:
    """Compare a guess, one of guesses(), with the truth. Raises LabError for a guess that is not a cause."""
    if guess not in guesses():
        raise lab.LabError(f"{guess!r} is not a cause.\nNext: choose one of practice.guesses()")
    truth = case.truth
    file, line = truth.marked[0] if truth.marked else ("", None)
    source = truth.files[file].splitlines()[line - 1].strip() if line else ""
    named = next(cause for cause in CAUSES if cause.id == truth.cause)
    return Answer(
        guess == truth.cause,
        guess,
        truth.state,
        truth.cause,
        file,
        line,
        source,
        truth.story,
        inspect.getdoc(inspect.getmodule(named.match)) or named.title,
    )


# -- how a server is brought to hang, and how that is seen ---------------------------------------------
# `how` is whatever has the fields of a Case: the tests have a noun of their own.


def hang(
    server: lab.Server,
    how: Any,
    stack: ExitStack,
    timeout: float,
    name: str,
    seen: Callable[[list[socket.socket]], bool] | None = None,
) -> None:
    """Wait until it answers, trigger it, and wait until the symptom (or `seen`, of the clients) is there.

    Raises LabError where one of these does not happen in time.
    """
    wait_until(lambda: answers(server, how), timeout, server, f"{name} should answer before it is hung")
    clients = trigger(server, how, stack, timeout)
    shows = (lambda: seen(clients)) if seen else (lambda: holds(server, how))
    wait_until(shows, timeout, server, f"{name} should show its symptom")


def answers(server: lab.Server, how: Any) -> bool:
    """Whether every path that matters answers. Asked before the trigger: slow start-up is no symptom."""
    return all(ask(server.url, path, 5) == "answer" for path in {how.symptom or "/health", how.control or "/health"})


def trigger(server: lab.Server, how: Any, stack: ExitStack, timeout: float) -> list[socket.socket]:
    """Send the requests that hang the server. Those of a client that waits stay open as long as `stack`."""
    clients = []
    for path in how.trigger * how.count:
        client = request(server.url, path, timeout)
        clients.append(stack.enter_context(closing(client)))
        if how.client == "leaves":
            read(client, until=lambda answer: len(answer.partition(b"\r\n\r\n")[2]) > 0)
            client.close()
        elif how.client == "is answered":
            read(client)
    if how.signal:
        os.kill(server.pid, getattr(signal, how.signal))
    return clients


def holds(server: lab.Server, how: Any, seconds: float = 1.0) -> bool:
    """Whether the symptom is there now; silence counts after `seconds`."""
    if how.signal and (ask(server.url, "/", seconds) != "refused" or ended(server, seconds)):
        return False
    if how.symptom and ask(server.url, how.symptom, seconds) != "silence":
        return False
    if how.control and ask(server.url, how.control, 10) != "answer":
        return False
    return not ended(server)


def silent(connection: socket.socket, seconds: float = 1.0) -> bool:
    """Whether no answer begins within `seconds`."""
    return not select.select([connection], [], [], seconds)[0]


def request(url: str, path: str, timeout: float) -> socket.socket:
    """Send a GET, or what `path` says whole, as `POST /orders {"id": 7}`; the connection, still open."""
    host, port = url.rpartition("/")[2].split(":")
    verb, path, body = ("GET", path, "") if path.startswith("/") else path.split(" ", 2)
    sent = f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n" if body else ""
    connection = socket.create_connection((host, int(port)), timeout)
    connection.sendall(f"{verb} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{sent}\r\n{body}".encode())
    return connection


def read(connection: socket.socket, until: Callable[[bytes], bool] = lambda answer: False) -> bytes:
    """What comes until `until(all so far)` or the end of the stream."""
    answer = b""
    while not until(answer):
        part = connection.recv(65536)
        if not part:
            break
        answer += part
    return answer


def ask(url: str, path: str, seconds: float) -> str:
    """ "answer" (a 200), "silence" for `seconds`, "refused" (nobody listens) or "error" (anything else)."""
    try:
        with closing(request(url, path, seconds)) as connection:
            answer = read(connection)  # to its end: the server rests again
    except socket.timeout:
        return "silence"
    except ConnectionRefusedError:
        return "refused"
    except ConnectionError:
        return "error"
    return "answer" if answer.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")) else "error"


def ended(server: lab.Server, seconds: float = 0.0) -> bool:
    """Whether the process is gone, or goes within `seconds`."""
    deadline = time.monotonic() + seconds
    while server.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return server.process.poll() is not None


def wait_until(condition: Callable[[], bool], timeout: float, server: lab.Server, what: str) -> None:
    """Raises LabError with the end of the server's log."""
    deadline = time.monotonic() + timeout
    while not condition():
        if ended(server) or time.monotonic() > deadline:
            fate = "ended" if ended(server) else f"did not within {timeout:g} s"
            log = "\n".join(server.log.read_text(errors="replace").splitlines()[-15:])
            raise lab.LabError(f"{what}; it {fate}. Its log ends:\n{log}")
        time.sleep(0.02)
