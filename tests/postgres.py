"""A PostgreSQL of its own for a test: made in a temporary folder, on an ephemeral port, gone afterwards.

    with postgres.running() as url:
        psycopg.connect(url)

PostgreSQL refuses to run as root, so root lends it Debian's user `postgres`.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "postgres"
PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


class PostgresError(Exception):
    """It did not start. Holds the end of its log."""


def missing() -> str | None:
    """What keeps it from running here, with the command that helps; None where nothing does."""
    if program("postgres") is None:
        return "PostgreSQL is not installed. Next: apt-get install --no-install-recommends postgresql"
    if os.geteuid() == 0 and USER not in {entry.pw_name for entry in pwd.getpwall()}:
        return f"PostgreSQL does not run as root, and there is no user {USER}. Next: useradd --system {USER}"
    return None


def program(name: str) -> str | None:
    """The newest installed one. Debian keeps the server's programs out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else shutil.which(name)


@contextmanager
def running(timeout: float = 30.0) -> Iterator[str]:
    """The address of a fresh server. Raises PostgresError when it is not ready within `timeout` seconds."""
    why = missing()
    if why:
        raise PostgresError(why)
    with tempfile.TemporaryDirectory(prefix="postgres-") as scratch:
        folder, user = Path(scratch), {}
        if os.geteuid() == 0:
            shutil.chown(folder, USER, USER)
            user = {"user": USER, "group": USER, "extra_groups": []}
        made = subprocess.run(
            [program("initdb"), "-D", folder / "data", "-U", "test", "--auth=trust", "--no-sync"],
            capture_output=True,
            text=True,
            cwd=folder,
            **user,
        )
        if made.returncode:
            raise PostgresError(made.stderr)
        port = free_port()
        command = [program("postgres"), "-D", folder / "data", "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-F"]
        with (
            (folder / "log").open("w") as log,
            subprocess.Popen(
                command,
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509
                **user,
            ) as server,
        ):
            try:
                wait_until_ready(server, port, folder / "log", timeout)
                yield f"postgresql://test@127.0.0.1:{port}/postgres"
            finally:
                server.send_signal(signal.SIGQUIT)  # "immediate": it ends its children, and waits for no client


def free_port() -> int:
    """One that nobody has now. PostgreSQL cannot be told to choose, so another may take it in between."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


def wait_until_ready(server: subprocess.Popen, port: int, log: Path, timeout: float) -> None:
    """Until it answers pg_isready."""
    ask = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    deadline = time.monotonic() + timeout
    while subprocess.run(ask).returncode:
        if server.poll() is not None or time.monotonic() > deadline:
            raise PostgresError(f"PostgreSQL did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)
