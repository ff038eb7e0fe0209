"""Servers that really hang, and healthy ones: hang, capture, diagnose. The truth is how each server was built."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import zoo

from hangdebug.capture import Target, on_port, pack, resolve
from hangdebug.diagnose import diagnose, worst
from hangdebug.errors import NoProcess, NotPython
from hangdebug.live import observe, observe_briefly
from hangdebug.model import Diagnosis

HANG = Path(__file__).parents[1] / "scripts" / "hang.py"
NAMES = [name for folder in zoo.FOLDERS for name in zoo.names(folder)]


def silent(line: str) -> None:
    pass


def watched(target: Target) -> Diagnosis:
    return worst(map(diagnose, observe_briefly(target, silent)))


def agrees(answer: Diagnosis, truth: zoo.Truth) -> bool:
    frame = answer.blocking_frame
    named = frame is not None and any(frame.file.endswith(file) and frame.line == line for file, line in truth.marked)
    return (answer.state, answer.cause) == (truth.state, truth.cause) and (named or not truth.marked)


@pytest.mark.parametrize("name", NAMES)
def test_a_live_server_is_diagnosed_as_it_was_built(name: str) -> None:
    if zoo.missing(name):
        pytest.skip(zoo.missing(name))
    with zoo.hang(name) as hung:
        answer = watched(resolve(hung.pid))
    assert agrees(answer, hung.truth), answer
    assert answer.confidence > 0.8 or answer.state == "healthy"


@pytest.mark.parametrize("name", ["executor_shutdown", "sleep", "threadpool_limit", "none", "slow_requests"])
def test_uvloop_is_diagnosed_alike(name: str) -> None:
    pytest.importorskip("uvloop")
    with zoo.hang(name, loop="uvloop") as hung:
        answer = watched(resolve(hung.pid))
    assert agrees(answer, hung.truth), answer


def test_a_full_default_executor_resolves_no_names() -> None:
    with zoo.hang("default_executor") as hung:
        assert zoo.ask(hung.url, "/partner", 0.5) == "silence"
        answer = watched(resolve(hung.pid))
    assert agrees(answer, hung.truth), answer


@pytest.mark.parametrize("args", [("--workers", "2"), ("--reload",)])
def test_the_hung_worker_is_found_behind_its_supervisor_and_its_port(args: tuple[str, ...]) -> None:
    import lab
    truth = zoo.truth("sleep")
    with lab.start(truth.folder, truth.app, args=args) as server:
        with zoo.request(server.url, truth.trigger[0], 5):
            answers = [watched(resolve(server.pid)), watched(on_port(int(server.url.rpartition(":")[2])))]
            for answer in answers:
                assert agrees(answer, truth), answer
                assert answer.process.pid != server.pid and answer.process.supervisor_pid == server.pid


def test_a_bundle_elsewhere_says_the_same_as_the_live_process(tmp_path: Path) -> None:
    """Folder and archive, read by a bare Python from another working directory."""
    with zoo.hang("executor_shutdown") as hung:
        live = worst(map(diagnose, observe(resolve(hung.pid), tmp_path / "evidence", silent)))
    archive = pack(tmp_path / "evidence")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for bundle in (archive, tmp_path / "evidence"):
        done = subprocess.run([sys.executable, "-S", "-I", str(HANG), "diagnose", str(bundle), "--json"], cwd=elsewhere,
                              capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
        assert (answer["state"], answer["cause"], answer["confidence"]) == (live.state, live.cause, live.confidence)
        assert answer["blocking_frame"]["source"] == live.blocking_frame.source
        assert answer["kernel_wait"] == {"syscall": "futex", "detail": None}
    assert all(not name.endswith(".part") for name in zipfile.ZipFile(archive).namelist())


def test_evidence_is_kept_when_the_process_dies_half_way(tmp_path: Path) -> None:
    with zoo.hang("sleep") as hung:
        lines: list[str] = []
        from hangdebug.capture import bundle
        taken = []
        real = bundle.pyspy.dump

        def dying(pid: int) -> str:
            if len(taken) == 2:
                hung.server.process.kill()
                hung.server.process.wait()
            taken.append(pid)
            return real(pid)

        bundle.pyspy.dump = dying
        try:
            found = observe(resolve(hung.pid), tmp_path / "evidence", lines.append)
        finally:
            bundle.pyspy.dump = real
        answer = worst(map(diagnose, found))
    assert len(found[0].snapshots) == 2 and answer.cause == "sleep"
    assert any("kept" in line for line in lines)


def test_a_stopped_process_is_told_from_a_hung_one() -> None:
    with zoo.hang("none") as server:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            answer = watched(resolve(server.pid))
        finally:
            os.kill(server.pid, signal.SIGCONT)
    assert answer.state == "stopped"


def test_the_capture_changes_nothing_for_the_server() -> None:
    with zoo.hang("none") as server:
        watched(resolve(server.pid))
        assert zoo.ask(server.url, "/health", 2) == "answer"


def test_a_pid_that_is_gone_and_one_that_is_not_python() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(NoProcess):
        resolve(ended.pid)
    with subprocess.Popen(["sleep", "30"]) as other:
        try:
            with pytest.raises(NotPython):
                watched(resolve(other.pid))
        finally:
            other.kill()


def test_a_port_without_a_listener() -> None:
    import socket
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it meanwhile
        with pytest.raises(NoProcess):
            on_port(taken.getsockname()[1])
