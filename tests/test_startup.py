"""A server that never serves: its start really hangs, with and without an event loop, and is told from a slow one."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

import lab
import zoo
from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.capture.processes import resolve
from hangdebug.observe import observe_briefly

pytestmark = pytest.mark.live

UVICORN = ("-m", "uvicorn", "main:app", "--port", "0")
SILENT = """
import socket
line, peer = socket.socketpair()  # nobody ever answers
print("READY 1", flush=True)
line.recv(1)  # <-- socket
"""
APP = "from fastapi import FastAPI\napp = FastAPI()\n"
WAITS_FOR_A_THREAD = """
import asyncio, socket
from contextlib import asynccontextmanager
from fastapi import FastAPI
database = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers

def migrate():
    with socket.create_connection(database.getsockname()) as line:
        print("READY 1", flush=True)
        line.recv(1)  # <-- socket

@asynccontextmanager
async def lifespan(app):
    await asyncio.get_running_loop().run_in_executor(None, migrate)
    yield

app = FastAPI(lifespan=lifespan)
"""
IMPORTED_TWICE = {
    "rates.py": SILENT,
    "main.py": """
import sys, threading, time
from fastapi import FastAPI
threading.Thread(target=__import__, args=("rates",), daemon=True).start()
while not hasattr(sys.modules.get("rates"), "line"):
    time.sleep(0.01)
import rates  # <-- import-lock
app = FastAPI()
""",
}


def started(files: dict[str, str], command: tuple[str, ...], folder: Path) -> Diagnosis:
    for name, text in files.items():
        (folder / name).write_text(text)
    with lab.launch([sys.executable, *command], folder, None, re.compile("READY (1)"), 20) as server:
        return worst(map(diagnose, observe_briefly(resolve(server.pid), lambda line: None)))


@pytest.mark.parametrize("name", ["import_hangs", "lifespan_sleeps", "lifespan_awaits", "script_start"])
def test_a_start_that_hangs(name: str) -> None:
    with zoo.hang(name) as server:
        answer = worst(map(diagnose, observe_briefly(resolve(server.pid), lambda line: None)))
    agrees(answer, server.truth.cause, server.truth.marked)


def agrees(answer: Diagnosis, cause: str, marked: Collection[tuple[str, int]]) -> None:
    assert (answer.state, answer.cause) == ("startup-hang", cause), answer
    assert (Path(answer.blocking_frame.file).name, answer.blocking_frame.line) in marked
    assert answer.confidence > 0.8


@pytest.mark.parametrize(
    "files, command, cause",
    [
        ({"main.py": WAITS_FOR_A_THREAD}, UVICORN, "socket"),
        (IMPORTED_TWICE, UVICORN, "import-lock"),
        (IMPORTED_TWICE, ("main.py",), "import-lock"),
    ],
    ids=["thread", "import-lock", "import-lock-script"],
)
def test_a_start_that_another_thread_hangs(
    files: dict[str, str], command: tuple[str, ...], cause: str, tmp_path: Path
) -> None:
    marked = {(name, line) for name, text in files.items() for line, told in zoo.marks(text) if told == cause}
    agrees(started(files, command, tmp_path), cause, marked)


def test_a_start_that_is_slow_and_moves_on_is_no_hang(tmp_path: Path) -> None:
    steps = "\n".join(["print('READY 1', flush=True)", *(f"total = sum(range({n}, 400_000))" for n in range(900))])
    answer = started({"main.py": "import steps\n" + APP, "steps.py": steps}, UVICORN, tmp_path)
    assert answer.state == "inconclusive" or answer.confidence < 0.7, answer


def test_a_script_that_works_and_serves_nobody_is_no_start(tmp_path: Path) -> None:
    batch = "import time\nprint('READY 1', flush=True)\ntime.sleep(86400)\n"
    assert started({"main.py": batch}, ("main.py",), tmp_path).state == "inconclusive"
