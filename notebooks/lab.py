"""Start and end the servers that the demo, the notebook and the tests hang on purpose.

    with lab.start("some/folder", "app.main:app") as server:
        server.url, server.pid

    with lab.newsroom() as news:  # the bundled news service and the feeds that it reads
        news.health_url, news.stream_url, news.pid

A server runs under the real `uvicorn` command line on an ephemeral port. It counts as started when its own
log says where it listens, and it is ended by pid, workers included, also when this process dies first. Its
log goes with it; the log of a server that did not start is kept, and the error names it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

SITE = Path(__file__).with_name("lab_site")
NEWSROOM = Path(__file__).with_name("newsroom")
# uvicorn's supervisor says where it listens before a worker has started: both lines count.
UVICORN = re.compile(r"(?s)(?=.*Application startup complete).*?Uvicorn running on (http://[\d.]+:\d+)")
FEEDS = re.compile(r"Feeds on (http://[\d.]+:\d+)")


class LabError(Exception):
    """The server ended, or did not say that it listens, before the deadline. Holds the end of its log."""


@dataclass(frozen=True)
class Server:
    """A running server. `url` has no trailing slash; `log` is the file of its output, removed by `stop`."""

    process: subprocess.Popen
    url: str
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self, grace: float = 0.5, keep_log: bool = False) -> None:
        """End it by pid: SIGTERM, and SIGKILL to it and its children after `grace` seconds."""
        with uninterrupted():
            family = [*descendants(self.pid), self.pid] if self.process.poll() is None else []
            if family:
                self.process.terminate()
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                pass
            for pid in family:
                if pid != self.pid or self.process.poll() is None:
                    kill(pid)
            self.process.wait()
            if not keep_log:
                self.log.unlink(missing_ok=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


@dataclass(frozen=True)
class Newsroom:
    """The running news service in `app_dir`, and the feed server that it reads."""

    server: Server
    feeds: Server
    app_dir: Path

    @property
    def pid(self) -> int:
        return self.server.pid

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def health_url(self) -> str:
        return f"{self.url}/health"

    @property
    def stream_url(self) -> str:
        return f"{self.url}/stream"

    @property
    def articles_url(self) -> str:
        return f"{self.url}/articles"

    def stop(self) -> None:
        with uninterrupted():
            self.server.stop()
            self.feeds.stop()

    def __enter__(self) -> Newsroom:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def start(
    app_dir: str | Path,
    app: str,
    *,
    args: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    python: str = sys.executable,
    timeout: float = 20.0,
) -> Server:
    """Run `python -m uvicorn APP --port 0 ARGS` in `app_dir` and wait until it listens.

    Raises LabError with the end of the log when it ends or stays silent for `timeout` seconds.
    """
    command = [python, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", "0", *args]
    return launch(command, app_dir, env, UVICORN, timeout)


def newsroom(
    app_dir: str | Path = NEWSROOM,
    *,
    delay: float = 60.0,
    args: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    python: str = sys.executable,
    timeout: float = 20.0,
) -> Newsroom:
    """Start the feed server and the news service of `app_dir`; the slow feeds take `delay` seconds.

    `args` and `env` go to the news service. Raises LabError as `start` does, with nothing left running.
    """
    direct = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}  # the feeds are on this machine
    command = [python, str(NEWSROOM / "feedserver.py"), "--delay", str(delay)]
    with ExitStack() as undo:
        feeds = undo.enter_context(launch(command, NEWSROOM, None, FEEDS, timeout))
        settings = {"NEWSROOM_FEEDS_URL": feeds.url, **direct, **(env or {})}
        server = undo.enter_context(
            start(app_dir, "app.main:app", args=args, env=settings, python=python, timeout=timeout)
        )
        undo.pop_all()
    return Newsroom(server, feeds, Path(app_dir))


def copy_app(target: str | Path) -> Path:
    """Copy the news service to `target`/app, for a patch to change. Gives `target` back, as an app_dir."""
    app = shutil.copytree(
        NEWSROOM / "app", Path(target) / "app", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in (app, *app.rglob("*")):  # a skill's folder is often read-only; a copy is to be changed
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
    return Path(target)


def overlay(app_dir: str | Path) -> list[Path]:
    """Put the full repair, repair.diff, over a copy of the news service. The files written. Raises LabError."""
    if Path(app_dir).resolve() == NEWSROOM.resolve():
        raise LabError("The repair would overwrite the bundled news service: give it the folder of a copy.")
    written = []
    for name, diff in diffs(NEWSROOM / "repair.diff"):
        repaired = patched((NEWSROOM / name).read_text(encoding="utf-8"), diff)
        written.append(Path(app_dir) / name)
        written[-1].write_text(repaired, encoding="utf-8")
    return written


def diffs(file: Path) -> list[tuple[str, str]]:
    """The parts of a unified diff in their order, each with the name of the file that it changes."""
    parts = re.split(r"^--- a/(.+)\n\+\+\+ .*\n", file.read_text(encoding="utf-8"), flags=re.M)[1:]
    return list(zip(parts[::2], parts[1::2]))


def patched(text: str, diff: str) -> str:
    """A text after the hunks of a unified diff; a blank line may have lost its space. Raises LabError."""
    lines, made, at = text.splitlines(True), [], 0
    for start, _, hunk in re.findall(r"^@@ -(\d+)(,\d+)? .*@@.*\n((?:[^@\n].*\n|\n)*)", diff, re.M):
        rows = [row if row.strip() else " \n" for row in hunk.splitlines(True)]
        made += lines[at : int(start) - 1] + [row[1:] for row in rows if row[0] != "-"]
        before = [row[1:] for row in rows if row[0] != "+"]
        at = int(start) - 1 + len(before)
        if lines[int(start) - 1 : at] != before:
            raise LabError(f"A diff of the lab was made of another text than the one here, near line {start}.")
    return "".join(made + lines[at:])


def launch(
    command: list[str], folder: str | Path, env: dict[str, str] | None, listening: re.Pattern[str], timeout: float
) -> Server:
    """Run `command` until its log matches `listening`, whose first group is the URL. Raises LabError."""
    with ExitStack() as undo:
        with uninterrupted():  # so that no Ctrl-C falls between the start and the note of how to undo it
            descriptor, name = tempfile.mkstemp(prefix="lab-", suffix=".log")
            try:
                with os.fdopen(descriptor, "wb") as output:
                    process = subprocess.Popen(
                        command,
                        cwd=folder,
                        env=environment(env),
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,  # Ctrl-C is ours to handle
                    )
            except OSError as error:
                os.unlink(name)
                raise LabError(f"Cannot run {command[0]} in {folder}: {error.strerror}") from error
            server = Server(process, "", Path(name))
            undo.push(lambda kind, *rest: server.stop(keep_log=kind is LabError))
        url = handshake(process, Path(name), timeout, listening)
        undo.pop_all()
    return replace(server, url=url)


def environment(extra: dict[str, str] | None) -> dict[str, str]:
    paths = [str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LAB_PARENT": str(os.getpid()),
        **(extra or {}),
    }


def handshake(process: subprocess.Popen, log: Path, timeout: float, listening: re.Pattern[str] = UVICORN) -> str:
    """The URL that the server's log names. Raises LabError."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = listening.search(log.read_text(errors="replace"))
        if found:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    state = "ended" if process.poll() is not None else f"did not listen within {timeout:g} s"
    tail = log.read_text(errors="replace").splitlines()[-15:]
    raise LabError("\n".join([f"The server {state}. Its log, {log}, ends:", *tail]))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and kin back until the block has ended, then let it through. Only main threads are interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before = {one: found for one, found in before.items() if callable(found)}  # nobody else unwinds what is open
    for one in before:
        signal.signal(one, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        for one, found in before.items():
            signal.signal(one, found)
        if held:
            signal.raise_signal(held[0])


def descendants(pid: int) -> list[int]:
    """Pids below `pid`, as psutil sees them, deepest first. Empty where there are none."""
    try:
        return [child.pid for child in reversed(psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
