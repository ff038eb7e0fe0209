"""Start and end the servers that the demo, the notebook and the tests hang on purpose.

    with lab.start("notebooks/newsroom", "app.main:app") as server:
        server.url, server.pid

A server runs under the real `uvicorn` command line on an ephemeral port. It counts as started when its own
log says where it listens, and it is ended by pid, workers included, also when this process dies first.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SITE = Path(__file__).with_name("lab_site")
LISTENING = re.compile(r"Uvicorn running on (http://[\d.]+:\d+)")


class LabError(Exception):
    """The server ended, or did not say that it listens, before the deadline. Holds the end of its log."""


@dataclass(frozen=True)
class Server:
    """A running server. `url` has no trailing slash; `log` is the file of its output."""

    process: subprocess.Popen
    url: str
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self, grace: float = 0.5) -> None:
        """End it by pid: SIGTERM, and SIGKILL to it and its children after `grace` seconds."""
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

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def start(app_dir: str | Path, app: str, *, args: tuple[str, ...] = (), env: dict[str, str] | None = None,
          python: str = sys.executable, timeout: float = 20.0) -> Server:
    """Run `python -m uvicorn APP --port 0 ARGS` in `app_dir` and wait until it listens.

    Raises LabError with the end of the log when it ends or stays silent for `timeout` seconds.
    """
    command = [python, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", "0", *args]
    descriptor, name = tempfile.mkstemp(prefix="lab-", suffix=".log")
    with os.fdopen(descriptor, "wb") as output:
        process = subprocess.Popen(
            command, cwd=app_dir, env=environment(env), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,  # Ctrl-C is ours to handle, not the server's
        )
    try:
        return Server(process, handshake(process, Path(name), timeout), Path(name))
    except BaseException:
        Server(process, "", Path(name)).stop()
        raise


def environment(extra: dict[str, str] | None) -> dict[str, str]:
    paths = [str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "LAB_PARENT": str(os.getpid()), **(extra or {})}


def handshake(process: subprocess.Popen, log: Path, timeout: float) -> str:
    """The URL that the server's log names. Raises LabError."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        text = log.read_text(errors="replace")
        found = LISTENING.search(text)
        if found and "Application startup complete" in text:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    state = "ended" if process.poll() is not None else f"did not listen within {timeout:g} s"
    raise LabError(f"The server {state}. Its log ends:\n" + "\n".join(log.read_text().splitlines()[-15:]))


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
