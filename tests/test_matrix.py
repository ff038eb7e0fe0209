"""The matrix pairs everything with everything, keeps what it was told, counts right; and tasks of 3.14 are told of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import pytest

import servers
import zoo
import zoo_matrix
from hangdebug.answer.diagnose import diagnose
from hangdebug.capture import proc, pyspy
from hangdebug.capture.interpreter import layout
from hangdebug.capture.interpreter.tasks import ask_own_tool, tasks_of
from hangdebug.evidence.model import Evidence, Snapshot
from test_tasks import KNOWN, marked, own, running
from zoo_matrix import Cell, Row

sys.path.insert(0, str(zoo.HERE.parent / "tooling"))
import generate

PYTHONS = [(f"/usr/bin/python3.{minor}", f"3.{minor}") for minor in zoo_matrix.MINORS]
NAMES = [name for folder in zoo.FOLDERS for name in zoo.names(folder)]
RIGHT = Row(
    "sleep 3.9 asyncio uvicorn", "sleep", "3.9", "asyncio", "uvicorn", "loop-blocked", "sleep", "sleep.py:33", 0.95, 1.4
)
WRONG = replace(
    RIGHT,
    key="none 3.10 uvloop granian",
    name="none",
    version="3.10",
    loop="uvloop",
    under="granian",
    confidence=0.91,
    seconds=2.6,
    wrong="healthy, none",
    false_alarm=True,
)
NEWER = [path for version, path in sorted(servers.pythons().items()) if version >= (3, 14)]


def test_every_server_program_python_and_loop_meet_in_pairs() -> None:
    cells = zoo_matrix.cells(NAMES, PYTHONS, everything=False)
    versions = [version for _, version in PYTHONS]
    assert {(one.under, one.version) for one in cells} == set(product(servers.KINDS, versions))
    assert {(one.under, one.loop) for one in cells} == set(product(servers.KINDS, zoo_matrix.LOOPS))
    assert {(one.version, one.loop) for one in cells} == set(product(versions, zoo_matrix.LOOPS))
    assert {(one.name, one.version) for one in cells if one.under == "uvicorn" and one.loop == "asyncio"} == set(
        product(NAMES, versions)
    )
    assert {one.name for one in cells if one.under == "uvicorn" and one.loop == "uvloop"} == set(NAMES)
    assert set(zoo_matrix.SAMPLE) <= {one.name for one in cells if one.under != "uvicorn"}


def test_everything_is_every_server_on_both_loops() -> None:
    cells = zoo_matrix.cells(NAMES, PYTHONS, everything=True)
    assert len({one.key for one in cells}) == len(cells)
    plain = [one for one in cells if one.under == "uvicorn"]
    assert {(one.name, one.version, one.loop) for one in plain} == set(
        product(NAMES, (v for _, v in PYTHONS), zoo_matrix.LOOPS)
    )


def test_beside_a_healthy_worker_only_a_waiting_client_shows_a_hang() -> None:
    for truth in map(zoo.truth, zoo_matrix.BESIDE):
        assert truth.state == "healthy" or (truth.client, truth.count, len(truth.trigger)) == ("waits", 1, 1)


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    kept = tmp_path / "rows.jsonl"
    kept.write_text("".join(json.dumps(asdict(row)) + "\n" for row in (WRONG, RIGHT)))
    todo = [Cell("sleep", "no such python", "3.9"), Cell("none", "no such python", "3.10", "uvloop", "granian")]
    assert zoo_matrix.run(todo, kept, 1) == [RIGHT, WRONG]


def test_the_summary_counts_what_is_right_and_how_sure_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = zoo_matrix.page([RIGHT, WRONG])
    assert (
        "1 of 2 answers are as built: state, cause and frame. False alarms on healthy servers: 1. "
        "Of 2 answers with a confidence above 0.9, 1 are right (50.0 %)."
    ) in page
    assert "| 3.9 | asyncio | 1 of 1 | 0 | 1.4 | 1.4 |\n| 3.10 | uvloop | 0 of 1 | 1 | 2.6 | 2.6 |" in page
    assert "| granian | 0 of 1 | 1 | 2.6 | 2.6 |" in page and "| 0.91 | 2.6 | no: healthy, none |" in page
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "zoo.md").write_text(page)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    short = generate.zoo_summary()
    assert short.startswith("1 of 2 answers") and short.endswith("are right (50.0 %).")


@pytest.mark.slow
def test_an_unknown_case_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, "zoo_matrix.py", "--only", "slep"], cwd=zoo.HERE, capture_output=True, text=True
    )
    assert done.returncode == 2 and "no case is called slep" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.live
def test_thread_ids_of_this_namespace_stay_as_they_are() -> None:
    with zoo.hang("none") as server:
        dump = pyspy.dump(server.pid)
        assert proc.namespace_depth(server.pid) == 1 and proc.dump_with_our_ids(server.pid, dump) == (
            dump,
            0,
        )


@pytest.mark.live
@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="where glibc keeps ids is known for x86_64"
)
def test_a_thread_without_an_id_is_known_by_its_address() -> None:
    with zoo.hang("small_limiter") as server:
        rows = json.loads(pyspy.dump(server.pid))
        lost = [dict(row, os_thread_id=None, active=True) for row in rows]
        found = json.loads(proc.dump_with_our_ids(server.pid, json.dumps(lost))[0])
        profile = "".join(f"thread ({row['thread_id']:#X}): x;main (a.py:1) 3\n" for row in rows).replace("0X", "0x")
        named = proc.stacks_with_our_ids(server.pid, profile)
    assert [row["os_thread_id"] for row in found] == [row["os_thread_id"] for row in rows] and len(rows) > 1
    assert not any(row["active"] for row in found)
    assert named.splitlines() == [f"thread ({row['os_thread_id']}): x;main (a.py:1) 3" for row in rows]


@pytest.mark.live
@pytest.mark.skipif(not NEWER, reason="no Python newer than 3.13 is here. Next: python tests/newer_python.py")
@pytest.mark.parametrize("python", NEWER or [""])
def test_a_newer_python_tells_where_its_tasks_wait(python: str) -> None:
    """By its own tool: what is said where its memory is not understood."""
    with running(Path(python)) as pid:
        found = ask_own_tool(pid)
    tasks = {task.name: task for task in found.tasks}
    assert found.note == layout.NOTE
    assert own(tasks["twice"]) == [("enter_twice", marked("twice"))] and tasks["twice"].waits_on == "Lock.acquire"
    assert own(tasks["flag"]) == [("wait_for_flag", marked("flag"))] and tasks["flag"].waits_on == "Event.wait"
    assert own(tasks["deep"])[:2] == [("deep", marked("bottom")), ("deep", marked("deeper"))]
    assert tasks["nap"].timed and tasks["timed"].timed and not tasks["flag"].timed and KNOWN.is_file()


@pytest.mark.live
def test_nothing_is_concluded_from_tasks_without_their_locks() -> None:
    """No list says whether a lock's holder is there, so a wait is told as a doubt at most."""
    with zoo.hang("reentered") as server:
        tasks = tuple(layout.with_wait(replace(one, awaits=None, inside=())) for one in tasks_of(server.pid).tasks)
        snapshot = Snapshot((), server.pid)
    answer = diagnose(Evidence((snapshot,), tasks=tasks, later=tasks, unread=layout.NOTE))
    assert answer.state != "tasks-waiting"
