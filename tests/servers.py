"""How each server runs an application: its command line, and the line of its log that says where it listens.

    with servers.start("gunicorn", folder, "sleep:app", loop="uvloop") as server:
        server.pid, server.url

uvicorn lets the kernel choose the port; granian and gunicorn's supervisor want a number, so one that is free
now is given to them.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Callable

import lab
import newer_python
from postgres import free_port

ELSEWHERE = (
    "unshare",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child",
)  # a container's pid namespace, and no more of one
UVICORN_WORKERS = {"asyncio": "uvicorn_worker.UvicornH11Worker", "uvloop": "uvicorn_worker.UvicornWorker"}


@dataclass(frozen=True)
class Kind:
    """`command` takes (application, loop, port) and gives the words behind `python -m`; `listening` finds the URL.

    `before` are the words that run that command, `modules` what the Python must have.
    """

    command: Callable[[str, str, int], list[str]]
    listening: re.Pattern[str]
    modules: tuple[str, ...]
    workers: int = 1
    before: tuple[str, ...] = ()


def uvicorn(*more: str) -> Callable[[str, str, int], list[str]]:
    return lambda app, loop, port: ["uvicorn", app, "--host", "127.0.0.1", "--port", "0", "--loop", loop, *more]


def gunicorn(app: str, loop: str, port: int) -> list[str]:
    return ["gunicorn", app, "-b", f"127.0.0.1:{port}", "-k", UVICORN_WORKERS[loop], "--timeout", "600"]


def hypercorn(app: str, loop: str, port: int) -> list[str]:
    return ["hypercorn", app, "-b", f"127.0.0.1:{port}", "-k", loop, "--access-logfile", "-"]


def granian(app: str, loop: str, port: int) -> list[str]:
    return ["granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--loop", loop, app]


KINDS = {
    "uvicorn": Kind(uvicorn(), lab.UVICORN, ("uvicorn",)),
    "uvicorn --workers 2": Kind(
        uvicorn("--workers", "2"),
        re.compile(r"(?s)(?=(?:.*Application startup complete){2}).*?Uvicorn running on (http://[\d.]+:\d+)"),
        ("uvicorn",),
        2,
    ),
    "uvicorn --reload": Kind(uvicorn("--reload"), lab.UVICORN, ("uvicorn",)),
    "gunicorn": Kind(
        gunicorn,
        re.compile(r"(?s)(?=.*Application startup complete).*?Listening at: (http://[\d.]+:\d+)"),
        ("gunicorn", "uvicorn_worker"),
    ),
    "hypercorn": Kind(hypercorn, re.compile(r"Running on (http://[\d.]+:\d+)"), ("hypercorn",)),
    "granian": Kind(
        granian, re.compile(r"(?s)(?=.*Started worker-1\b).*?Listening at: (http://[\d.]+:\d+)"), ("granian",)
    ),
    "uvicorn in a container": Kind(uvicorn(), lab.UVICORN, ("uvicorn",), before=ELSEWHERE),
}


def start(
    kind: str,
    folder: Path,
    app: str,
    *,
    loop: str = "asyncio",
    args: tuple[str, ...] = (),
    python: str = sys.executable,
    env: dict[str, str] | None = None,
    timeout: float = 30.0,
) -> lab.Server:
    """Raises KeyError for an unknown kind, lab.LabError when it does not listen within `timeout` seconds."""
    one = KINDS[kind]
    env = {**(env or {}), **({"LAB_PARENT": "1"} if one.before else {})}  # its first process has this number
    command = [*one.before, python, "-m", *one.command(app, loop, free_port()), *args]
    return lab.launch(command, folder, env, one.listening, timeout)


@cache
def missing(kind: str, python: str = sys.executable) -> str | None:
    """What keeps `python` from running it, in one sentence; None where nothing does."""
    for module in KINDS[kind].modules:
        if not has(module, python):
            return f"{module} is not installed for {python}. Next: {python} -m pip install {module.replace('_', '-')}"
    before = KINDS[kind].before
    if before and (
        not shutil.which(before[0]) or subprocess.run([*before, "true"], stderr=subprocess.DEVNULL).returncode
    ):
        return f"`{' '.join(before)}` is not permitted here; it needs root."
    return None


def has(module: str, python: str) -> bool:
    if python == sys.executable:
        return importlib.util.find_spec(module) is not None
    return subprocess.run([python, "-c", f"import {module}"], stderr=subprocess.DEVNULL).returncode == 0


@cache  # each of them is started once, and several modules ask
def pythons() -> dict[tuple[int, int, str], str]:
    """The interpreters of this machine with asyncio and ctypes: (major, minor, flags of its build) to its path."""
    found = [sys.executable, *filter(None, (shutil.which(f"python3.{minor}") for minor in range(6, 16)))]
    found += [*map(str, sorted(Path.home().glob(".pyenv/versions/3*/bin/python3"))), *newer_python.installed()]
    made: dict[tuple[int, int, str], str] = {}
    code = "import asyncio, ctypes, sys; print(*sys.version_info[:2], sys.abiflags)"
    for path in found:
        said = subprocess.run([path, "-c", code], capture_output=True, text=True).stdout.split()
        if said[1:]:
            made.setdefault((int(said[0]), int(said[1]), "".join(said[2:])), path)
    return made
