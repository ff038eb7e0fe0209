"""Servers for the tests of snippets/: the apps of tests/snippet_apps beside copies of the snippets, as a reader has."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import lab
from client import get, reading

TESTS = Path(__file__).resolve().parent
SNIPPETS = TESTS.parent / "snippets"
NEVER = float("inf")


def lay_out(folder: Path) -> Path:
    """Copy the snippets and the apps side by side into `folder`; gives it back."""
    for file in (*SNIPPETS.glob("*.py"), *(TESTS / "snippet_apps").glob("*.py")):
        shutil.copy(file, folder)
    return folder


@contextmanager
def held(url: str, count: int) -> Iterator[None]:
    """`count` streams that stay open, each read up to its first line."""
    with ExitStack() as open_:
        for _ in range(count):
            assert open_.enter_context(reading(url)).readline().startswith(b"data:")
        yield


def seconds_to_stop(server: lab.Server, number: int = signal.SIGTERM, patience: float = 5.0) -> float:
    """Send the signal: how long the server takes to end. NEVER beyond `patience`."""
    began = time.monotonic()
    os.kill(server.pid, number)
    try:
        server.process.wait(patience)
    except subprocess.TimeoutExpired:
        return NEVER
    return time.monotonic() - began


def said(server: lab.Server, *words: str) -> list[str]:
    """The lines of its log that begin with one of these words, without uvicorn's level."""
    lines = [line.partition("INFO:")[2].strip() for line in server.log.read_text().splitlines()]
    return [line for line in lines if line.startswith(words)]


def ask(url: str, *paths: str) -> None:
    for path in paths:
        assert get(url + path) is not None, path


def use_snippets() -> None:
    """Let this process import them."""
    if str(SNIPPETS) not in sys.path:
        sys.path.insert(0, str(SNIPPETS))
