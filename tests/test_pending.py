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
from dataclasses import replace
from pathlib import Path

import pytest

import zoo
from hangdebug.answer.diagnose import diagnose
from hangdebug.answer.model import Diagnosis
from hangdebug.capture.processes import resolve
from hangdebug.evidence.bundle import parse_tasks, read_bundle
from hangdebug.evidence.model import Evidence
from hangdebug.observe import observe

pytestmark = pytest.mark.live

OTHERS = [place for place in os.environ.get("HANG_PYTHONS", "").split(os.pathsep) if place]
PYTHONS = [sys.executable, *OTHERS]
HUNG = ("reentered", "leaked_permit", "never_set", "small_limiter")
OLD = 5.0  # from then on a request without an answer is called that
HEALTHY = ("waiting_streams", "patient_requests", "slow_requests")


def looked_at(
    name: str, folder: Path, python: str = sys.executable, loop: str = "asyncio", age: float = 0
) -> tuple[Evidence, zoo.Truth]:
    """`age` is for how many seconds its requests have had no answer by then."""
    with zoo.hang(name, python=python, loop=loop) as server:
        time.sleep(age)
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
    for look in ("first", "again"):  # on a loaded machine the loop may be busy in a sample: then look again
        streams = diagnose(looked_at("waiting_streams", tmp_path / look)[0])
        others = [line for line in streams.doubts if not line.startswith("Next: ")]
        if not others:
            break
    assert not others and streams.confidence > 0.8


@pytest.mark.parametrize(
    "name, least, most",
    [
        ("permit_by_hand", 0.7, 0.85),
        ("each_other", 0.5, 0.98),
        ("behind_a_slow_one", 0.5, 0.6),
        ("second_loop_needed", 0.6, 0.7),
        ("second_loop_alone", 0.3, 0.5),
    ],
)
def test_a_wait_is_accused_as_far_as_it_shows_who_ends_it(name: str, least: float, most: float, tmp_path: Path) -> None:
    evidence, truth = looked_at(name, tmp_path, age=OLD if name == "behind_a_slow_one" else 0)
    answer = diagnose(evidence)
    agrees(answer, truth)
    assert least < answer.confidence <= most


def test_a_request_that_waits_in_a_library_is_a_doubt(tmp_path: Path) -> None:
    answer = diagnose(looked_at("awaits_child", tmp_path)[0])
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


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task does not count how often it was cancelled")
def test_a_program_that_swallowed_its_end_is_told_from_one_that_was_not_told(tmp_path: Path) -> None:
    truth = zoo.truth("cancel_swallowed")
    with subprocess.Popen([sys.executable, zoo.find(truth.name)], stdout=subprocess.PIPE, text=True) as process:
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
    agrees(after, truth)
    assert 0.7 < after.confidence < 0.8
    assert any("was cancelled once, as Ctrl-C does" in line for line in after.evidence)
