"""Processes without an event loop: servers of one request at a time, worker threads, scripts. Each really runs."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import lab
import zoo
from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.capture.processes import on_port, resolve
from hangdebug.observe import observe_briefly

pytestmark = pytest.mark.live

SILENT = """
import queue, socket, socketserver, subprocess, threading, time
import requests
silent = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
def ready():
    print("READY 1", flush=True)
"""
LOCKS = (
    SILENT
    + """
lock = threading.Lock()
def total():
    with lock:  # <-- lock
        return 3
with lock:
    ready()
    total()
"""
)
WAITS_FOR_JOBS = (
    SILENT
    + """
jobs = queue.Queue()
threading.Thread(target=lambda: jobs.put(silent.accept()), daemon=True).start()  # who else could give it one?
ready()
jobs.get()
"""
)
WAITS_FOR_CLIENTS = (
    SILENT
    + """
ready()
silent.accept()
silent.accept()
"""
)
WAITS_FOR_AN_EVENT = (
    SILENT
    + """
threading.Thread(target=queue.Queue().get, daemon=True).start()
ready()
threading.Event().wait()
"""
)
WAITS_FOR_MESSAGES = (
    SILENT
    + """
ours, theirs = socket.socketpair()
class Channel:
    def start_consuming(self):
        ours.recv(100)
ready()
Channel().start_consuming()
"""
)
TAKES_MESSAGES = (
    SILENT
    + """
line = socket.create_connection(silent.getsockname())
def take():
    line.sendall(b"BLPOP jobs 0\\r\\n")
    return line.recv(1000)
ready()
while True:
    print(take())
"""
)
MAIN_HAS_ENDED = (
    SILENT
    + """
threading.Thread(target=lambda: [jobs.get() for jobs in [queue.Queue()]]).start()
ready()
"""
)
MAIN_HAS_ENDED_BESIDE_A_LOOP = (
    SILENT
    + """
import asyncio
async def beat():
    while True:
        await asyncio.sleep(60)
threading.Thread(target=lambda: asyncio.run(beat())).start()
ready()
"""
)
POLLS = (
    SILENT
    + """
ready()
while True:
    time.sleep(3600)
"""
)


def started(text: str, folder: Path) -> Diagnosis:
    (folder / "main.py").write_text(text)
    with lab.launch([sys.executable, "main.py"], folder, None, re.compile("READY (1)"), 20) as server:
        return worst(map(diagnose, observe_briefly(resolve(server.pid), lambda line: None)))


def looked_at(name: str) -> tuple[Diagnosis, zoo.Truth]:
    with zoo.hang(name) as server:
        return worst(map(diagnose, observe_briefly(resolve(server.pid), lambda line: None))), server.truth


@pytest.mark.parametrize("name", ["script_fetches", "script_jobs", "exit_listener"])
def test_a_script_that_waits_for_an_answer(name: str) -> None:
    """In its main thread, in a thread of its own, and in one that a library's atexit hook joins."""
    answer, truth = looked_at(name)
    assert (answer.state, answer.cause) == (truth.state, truth.cause), answer
    assert (Path(answer.blocking_frame.file).name, answer.blocking_frame.line) in truth.marked


def test_a_script_that_waits_for_a_lock_of_its_own(tmp_path: Path) -> None:
    answer = started(LOCKS, tmp_path)
    assert (answer.state, answer.cause) == ("deadlock", "lock"), answer
    assert (answer.blocking_frame.line, "lock") in zoo.marks(LOCKS)


@pytest.mark.parametrize(
    "text",
    [
        WAITS_FOR_JOBS,
        WAITS_FOR_CLIENTS,
        WAITS_FOR_AN_EVENT,
        WAITS_FOR_MESSAGES,
        TAKES_MESSAGES,
        MAIN_HAS_ENDED,
        MAIN_HAS_ENDED_BESIDE_A_LOOP,
        POLLS,
    ],
    ids=["jobs", "clients", "event", "messages", "messages-by-hand", "main-has-ended", "main-has-ended-loop", "polls"],
)
def test_a_wait_on_purpose_is_never_accused(text: str, tmp_path: Path) -> None:
    answer = started(text, tmp_path)
    assert answer.state in ("healthy", "inconclusive"), answer


def test_a_server_with_a_thread_a_request_and_one_slow_request_is_not_accused() -> None:
    truth = zoo.truth("wsgi_threads")
    with (
        lab.launch([sys.executable, "wsgi_threads.py"], truth.folder, None, zoo.SCRIPT, 20) as server,
        zoo.request(server.url, "/login", 5),
    ):
        answer = worst(map(diagnose, observe_briefly(resolve(server.pid), lambda line: None)))
        assert zoo.ask(server.url, "/health", 5) == "answer"
    assert answer.state in ("healthy", "inconclusive") and answer.confidence < 0.7, answer


def test_streams_that_sleep_between_two_events_in_threads_of_their_own_are_not_accused() -> None:
    answer, _ = looked_at("wsgi_streams")
    assert answer.state in ("healthy", "inconclusive"), answer


WSGI = """
import socket, requests
silent = socket.create_server(("127.0.0.1", 0))
def app(environ, start_response):
    if environ["PATH_INFO"] == "/quote":
        requests.get(f"http://127.0.0.1:{silent.getsockname()[1]}/")  # <-- http-client
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
"""
GUNICORN = re.compile(r"(?s)Listening at: (http://[\d.]+:\d+).*Booting worker")


def test_gunicorns_blocked_worker_is_found_and_its_idle_one_is_not_accused(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed: its sync workers are not tested")
    (tmp_path / "main.py").write_text(WSGI)
    command = [sys.executable, "-m", "gunicorn", "-w", "1", "-b", "127.0.0.1:0", "main:app"]
    with lab.launch(command, tmp_path, {"HOME": str(tmp_path)}, GUNICORN, 20) as server:
        port = int(server.url.rpartition(":")[2])
        assert zoo.ask(server.url, "/", 5) == "answer"
        assert worst(map(diagnose, observe_briefly(on_port(port), lambda line: None))).state == "healthy"
        with zoo.request(server.url, "/quote", 5):
            assert zoo.ask(server.url, "/", 0.5) == "silence"
            answer = worst(map(diagnose, observe_briefly(on_port(port), lambda line: None)))
    assert (answer.state, answer.cause) == ("sync-worker-blocked", "http-client"), answer
    assert answer.process.pid != server.pid and answer.confidence > 0.8


def test_a_stream_in_one_of_gunicorns_threads_that_nobody_waits_for(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed: its threads are not tested")
    (tmp_path / "main.py").write_text(zoo.find("wsgi_streams").read_text().partition("class Server")[0])
    command = [sys.executable, "-m", "gunicorn", "--threads", "4", "-b", "127.0.0.1:0", "main:app"]
    with lab.launch(command, tmp_path, {"HOME": str(tmp_path)}, GUNICORN, 20) as server, ExitStack() as streams:
        for _ in range(2):
            streams.enter_context(zoo.request(server.url, "/stream", 5)).recv(100)
        answer = worst(map(diagnose, observe_briefly(on_port(int(server.url.rpartition(":")[2])), lambda line: None)))
    assert answer.state in ("healthy", "inconclusive"), answer
