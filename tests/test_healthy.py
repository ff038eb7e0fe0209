"""Healthy servers are never accused, whenever one looks: sixty dumps of each at random moments, judged one by one.

That each server was healthy meanwhile is measured: its control URL answered all the time. HANG_LONG=1 takes all
servers on both event loops and adds three full looks at each; `make zoo` does so.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest

import client
import lab
import zoo
from hangdebug.answer.diagnose import diagnose, evidence_of, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.capture import pyspy
from hangdebug.capture.processes import on_port, resolve
from hangdebug.evidence.paste import read
from hangdebug.observe import observe_briefly

pytestmark = pytest.mark.live

LONG = bool(os.environ.get("HANG_LONG"))
DUMPS, LOOKS = 60, 3 if LONG else 0
LATENCY = 2.0  # seconds: slow at most, on a loaded machine, and far below what any client gives up after
NAMES = (*zoo.names("healthy"), "none")
LOOPS = ("asyncio", "uvloop")
SERVED = [(name, loop) for index, name in enumerate(NAMES) for loop in (LOOPS if LONG else LOOPS[index % 2 :][:1])]
QUIET = ("healthy", "inconclusive")


@contextmanager
def asked(url: str, paths: tuple[str, ...], clients: int = 2) -> Iterator[None]:
    """`clients` threads ask for each path again and again."""
    over = threading.Event()

    def ask(path: str) -> None:
        while not over.is_set():
            client.get(url + path, 5)
            over.wait(0.01)

    threads = [threading.Thread(target=ask, args=(path,)) for path in paths for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Ask `url` all the time. Fails unless every answer came, and in time."""
    over, times = threading.Event(), []

    def probe() -> None:
        while not over.wait(0.05):
            began = time.monotonic()
            times.append(time.monotonic() - began if client.get(url, LATENCY) is not None else float("inf"))

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert times and max(times) < LATENCY, "the server was not healthy"


def accused(answer: Diagnosis, sure: float) -> bool:
    return answer.state not in QUIET and answer.confidence > sure


def moments(pids: list[int], count: int) -> Iterator[Diagnosis]:
    """`count` dumps in turn of these processes, at random moments, each judged as if it had been pasted."""
    for index in range(count):
        text = pyspy.dump(pids[index % len(pids)])
        json.loads(text)
        for evidence in evidence_of(read(text)):
            yield diagnose(evidence)
        time.sleep(random.random() * 0.02)


def never_accused(pid: int, port: int, pids: list[int]) -> None:
    wrong = [answer for answer in moments(pids, DUMPS) if accused(answer, 0.5)]
    for number in range(LOOKS):
        target = on_port(port) if number % 2 else resolve(pid)
        answer = worst(map(diagnose, observe_briefly(target, lambda line: None)))
        wrong += [answer] if answer.state not in QUIET else []
    assert not wrong, wrong[0]


@pytest.mark.parametrize("name, loop", SERVED)
def test_a_healthy_server_is_never_accused(name: str, loop: str) -> None:
    with zoo.hang(name, loop=loop) as server:
        truth, port = server.truth, int(server.url.rpartition(":")[2])
        with answering(server.url + (truth.control or "/health")), asked(server.url, truth.load):
            never_accused(server.pid, port, [server.pid])


@pytest.mark.parametrize("args", [("--workers", "2"), ("--reload",)])
def test_a_supervisor_and_its_workers_are_never_accused(args: tuple[str, ...]) -> None:
    truth = zoo.truth("none")
    with lab.start(truth.folder, truth.app, args=args) as server:
        family = [one.pid for one in psutil.Process(server.pid).children() if "spawn_main" in " ".join(one.cmdline())]
        with answering(server.url + "/health"), asked(server.url, ("/health",)):
            never_accused(server.pid, int(server.url.rpartition(":")[2]), [server.pid, *family])


def test_a_loaded_machine_does_not_make_a_server_ill() -> None:
    """Under steady load, while others take the CPUs."""
    hog = "import time\nend = time.monotonic() + 30\nwhile time.monotonic() < end: pass"
    with ExitStack() as stack:
        server = stack.enter_context(zoo.hang("short_bursts"))
        for _ in range(os.cpu_count() or 1):
            other = subprocess.Popen([sys.executable, "-c", hog])
            stack.callback(other.wait)
            stack.callback(other.kill)
        stack.enter_context(answering(server.url + "/health"))
        stack.enter_context(asked(server.url, ("/health", *server.truth.load)))
        answer = worst(map(diagnose, observe_briefly(resolve(server.pid), lambda line: None)))
    assert answer.state in QUIET, answer
