"""What only the tasks show, on live servers: waits that never end are named, and waits that end are not.

HANG_PYTHONS may list further interpreters that have FastAPI: HANG_PYTHONS=/venvs/py39/bin/python:... pytest
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import client
import lab
import zoo
from hangdebug.answer.diagnose import diagnose
from hangdebug.answer.model import Diagnosis
from hangdebug.capture.processes import resolve
from hangdebug.evidence.bundle import read_bundle
from hangdebug.evidence.model import Evidence
from hangdebug.evidence.records import parse_tasks
from hangdebug.observe import observe

pytestmark = pytest.mark.live

OTHERS = [place for place in os.environ.get("HANG_PYTHONS", "").split(os.pathsep) if place]
PYTHONS = [sys.executable, *OTHERS]
HUNG = ("reentered", "leaked_permit", "never_set", "small_limiter")
HEALTHY = ("waiting_streams", "patient_requests", "slow_requests")


def looked_at(
    name: str, folder: Path, python: str = sys.executable, loop: str = "asyncio"
) -> tuple[Evidence, zoo.Truth]:
    with zoo.hang(name, python=python, loop=loop) as server:
        found = observe(resolve(server.pid), folder / "evidence", lambda line: None)
        return found[0], server.truth


def agrees(answer: Diagnosis, truth: zoo.Truth) -> None:
    assert (answer.state, answer.cause) == (truth.state, truth.cause)
    frame = answer.blocking_frame
    assert (Path(frame.file).name, frame.line) in truth.marked


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: Path(path).parts[-3])
@pytest.mark.parametrize("name", HUNG)
def test_a_wait_that_never_ends_is_named(name: str, python: str, tmp_path: Path) -> None:
    evidence, truth = looked_at(name, tmp_path, python)
    agrees(diagnose(evidence), truth)


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: Path(path).parts[-3])
@pytest.mark.parametrize("name", HEALTHY)
def test_a_wait_that_ends_is_never_accused(name: str, python: str, tmp_path: Path) -> None:
    evidence, _ = looked_at(name, tmp_path, python)
    assert diagnose(evidence).state == "healthy"


def test_uvloop_runs_the_same_tasks(tmp_path: Path) -> None:
    evidence, truth = looked_at("reentered", tmp_path, loop="uvloop")
    agrees(diagnose(evidence), truth)


def test_the_words_name_who_waits_for_whom(tmp_path: Path) -> None:
    ring = diagnose(looked_at("reentered", tmp_path / "ring")[0])
    assert any("the task inside of it is itself" in line for line in ring.evidence) and ring.confidence > 0.9
    failed = diagnose(looked_at("never_set", tmp_path / "failed")[0])
    assert any("(load) has failed: ValueError" in line for line in failed.evidence) and failed.confidence > 0.8
    queue = diagnose(looked_at("patient_requests", tmp_path / "queue")[0])
    assert any("is inside of it, and waits for timer" in line for line in queue.doubts) and queue.confidence < 0.7
    streams = diagnose(looked_at("waiting_streams", tmp_path / "streams")[0])
    assert not streams.doubts and streams.confidence > 0.8


HEAD = """
import asyncio, socket, threading
from fastapi import FastAPI
app, entered = FastAPI(), []
lock, permits = asyncio.Lock(), asyncio.Semaphore(1)
silent = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
@app.get("/entered")
async def count():
    return len(entered)
@app.get("/wait")
async def wait():
    entered.append(1)
"""
NEVER_RELEASED = (
    HEAD
    + """
    await permits.acquire()  # <-- lock
"""
)
EACH_OTHER = (
    HEAD
    + """
    tasks = {}
    async def turn(other):
        await tasks[other]  # <-- other
    tasks.update({name: asyncio.create_task(turn(other)) for name, other in (("one", "two"), ("two", "one"))})
    await asyncio.gather(*tasks.values())
"""
)
BEHIND_A_SLOW_ONE = (
    HEAD
    + """
    async with lock:  # <-- lock
        reader, _ = await asyncio.open_connection(*silent.getsockname())
        return await reader.readline()
"""
)
IN_A_LIBRARY = (
    HEAD
    + """
    child = await asyncio.create_subprocess_exec("sleep", "60")
    return await child.wait()
"""
)
ELSEWHERE = HEAD.replace(
    "app, entered",
    """other = asyncio.new_event_loop()
threading.Thread(target=other.run_forever, daemon=True, name="second").start()
async def look_up():
    socket.create_connection(silent.getsockname()).recv(1)  # <-- socket
app, entered""",
)
WAITED_FOR = (
    ELSEWHERE
    + """
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(look_up(), other))
"""
)
FOR_NOBODY = (
    ELSEWHERE
    + """
    asyncio.run_coroutine_threadsafe(look_up(), other)
"""
)


def asked(text: str, folder: Path) -> Diagnosis:
    """The diagnosis of a server of which three requests have come as far as where they wait."""
    (folder / "main.py").write_text(text)
    with lab.start(folder, "main:app") as server, ExitStack() as requests:
        for _ in range(3):
            requests.enter_context(zoo.request(server.url, "/wait", 5))
        while client.get(server.url + "/entered", 5) != b"3":
            time.sleep(0.01)
        return diagnose(observe(resolve(server.pid), folder / "evidence", lambda line: None)[0])


@pytest.mark.parametrize(
    "text, state, cause, least, most",
    [
        (NEVER_RELEASED, "tasks-waiting", "lock", 0.7, 0.85),
        (EACH_OTHER, "tasks-waiting", "other", 0.5, 0.98),
        (BEHIND_A_SLOW_ONE, "inconclusive", "lock", 0.3, 0.5),
        (WAITED_FOR, "loop-blocked", "socket", 0.6, 0.7),
        (FOR_NOBODY, "inconclusive", "socket", 0.3, 0.5),
    ],
    ids=["never released", "each other", "behind a slow one", "another loop, waited for", "another loop, for nobody"],
)
def test_a_wait_is_accused_as_far_as_it_shows_who_ends_it(
    text: str, state: str, cause: str, least: float, most: float, tmp_path: Path
) -> None:
    answer = asked(text, tmp_path)
    assert (answer.state, answer.cause) == (state, cause), answer
    assert (answer.blocking_frame.line, cause) in zoo.marks(text) and least < answer.confidence <= most


def test_a_request_that_waits_in_a_library_is_a_doubt(tmp_path: Path) -> None:
    answer = asked(IN_A_LIBRARY, tmp_path)
    assert answer.state == "healthy" and answer.confidence < 0.7
    assert any("all the time, without a timeout" in line for line in answer.doubts)


def test_one_reading_is_one_moment(tmp_path: Path) -> None:
    evidence, _ = looked_at("reentered", tmp_path)
    once = diagnose(replace(evidence, later=()))
    assert once.state == "tasks-waiting" and once.confidence <= 0.7
    assert diagnose(replace(evidence, tasks=(), later=())).state == "healthy"


def test_where_tasks_are_unread_nothing_is_concluded_from_those_that_are_not_there(tmp_path: Path) -> None:
    evidence, _ = looked_at("leaked_permit", tmp_path)
    part = diagnose(replace(evidence, unread="3 of its asyncio tasks could not be read"))
    assert part.state == "healthy" and part.confidence < 0.7
    assert any("3 of its asyncio tasks" in line for line in part.doubts)


def test_a_bundle_says_the_same_and_a_spoilt_one_says_less(tmp_path: Path) -> None:
    evidence, _ = looked_at("reentered", tmp_path)
    folder = tmp_path / "evidence"
    place = next(folder.glob("[0-9]*"))
    first = place / "tasks-0.json"
    assert parse_tasks(first.read_text()) == (evidence.tasks, "")
    rows = json.loads(first.read_text())["tasks"]
    spoilt = [dict(rows[0], frames=[{"line": "x"}, 7], inside=[None], awaits={"id": "y"}, name=3), 5, {}]
    assert len(parse_tasks(json.dumps({"tasks": spoilt}))[0]) == 2
    for text in ("", "[]", "{}", '{"tasks": 5}', '{"note": 3, "tasks": [[]]}', "[" * 100_000):
        first.write_text(text)
        spoilt_ = read_bundle(folder)[0]
        assert spoilt_.tasks == () and diagnose(spoilt_).state == "healthy"


ASKED_TO_END = """
import asyncio, sys
async def scoped():
    try:
        async with asyncio.timeout(0):
            await asyncio.sleep(86400)
    except TimeoutError:
        pass  # it was cancelled, and that was taken back
    await work()
async def work():
    while True:
        try:
            print("READY", flush=True)
            await asyncio.sleep(86400)  # <-- graceful-shutdown
        except asyncio.CancelledError:
            pass
asyncio.run(scoped())
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task does not count how often it was cancelled")
def test_a_program_that_swallowed_its_end_is_told_from_one_that_was_not_told(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(ASKED_TO_END)
    with subprocess.Popen([sys.executable, tmp_path / "job.py"], stdout=subprocess.PIPE, text=True) as process:
        try:
            answers = []
            for name in ("before", "after"):
                assert process.stdout.readline() == "READY\n"
                answers.append(diagnose(observe(resolve(process.pid), tmp_path / name, lambda line: None)[0]))
                process.send_signal(signal.SIGINT)
        finally:
            process.kill()
    before, after = answers
    assert before.state == "healthy"
    assert after.state == "exit-hang" and 0.7 < after.confidence < 0.8
    assert (after.blocking_frame.line, "graceful-shutdown") in zoo.marks(ASKED_TO_END)
    assert any("was cancelled once, as Ctrl-C does" in line for line in after.evidence)
