"""Servers that really hang, and healthy ones: hang, capture, diagnose. The truth is how each server was built."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Callable

import psutil
import pytest

import lab
import record_bundles
import servers
import zoo
import zoo_matrix
from hangdebug.answer.diagnose import diagnose, worst
from hangdebug.answer.model import Diagnosis
from hangdebug.capture.bundle import pack
from hangdebug.capture.processes import Target, on_port, resolve
from hangdebug.errors import NoProcess, NotPython
from hangdebug.evidence.model import Evidence
from hangdebug.observe import observe, observe_briefly

pytestmark = pytest.mark.live

HANG = Path(__file__).parents[1] / "scripts" / "hang.py"
QUIET, BUSY = {"loop-blocked", "exit-hang"}, {"loop-busy"}
LONG = bool(os.environ.get("HANG_LONG"))  # `make zoo` hangs them all, under every Python
# The evidence of each is on file and judged by the fast tests; tests/test_healthy.py looks at the healthy ones.
NAMES = [*zoo.names("hung"), *zoo.names("hung_more")[:: 1 if LONG else 5], *(zoo.names("healthy") if LONG else ())]


# Server programs, loops and cases so that each program is hung and each kind of state is met behind a supervisor.
SERVED = [
    ("uvicorn --workers 2", "asyncio", "sleep"),
    ("uvicorn --workers 2", "uvloop", "reentered"),
    ("uvicorn --reload", "uvloop", "run_coroutine_threadsafe"),
    ("gunicorn", "asyncio", "executor_shutdown"),
    ("gunicorn", "uvloop", "reentered"),
    ("gunicorn", "asyncio", "none"),
    ("hypercorn", "uvloop", "threadpool_limit"),
    ("hypercorn", "asyncio", "regex"),
    ("granian", "uvloop", "thread_join"),
    ("granian", "asyncio", "slow_requests"),
    ("uvicorn in a container", "asyncio", "subprocess"),
    ("uvicorn in a container", "uvloop", "threadpool_limit"),
    ("uvicorn in a container", "asyncio", "none"),
]


def silent(line: str) -> None:
    pass


def watched(target: Target) -> Diagnosis:
    return worst(map(diagnose, observe_briefly(target, silent)))


def as_built(answer: Diagnosis, truth: zoo.Truth) -> bool:
    return not zoo_matrix.difference(answer, truth)


def curl(url: str, seconds: float) -> int:
    """curl's exit status: 0 answered, 28 timed out, 7 refused."""
    return subprocess.run(
        ["curl", "-sS", "-f", "-o", "/dev/null", "-m", str(seconds), url], stderr=subprocess.DEVNULL
    ).returncode


def cpu_of_main(pid: int) -> float:
    times = next(thread for thread in psutil.Process(pid).threads() if thread.id == pid)
    return times.user_time + times.system_time


def cpu_of_all(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


@pytest.fixture(scope="module")
def ahead(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future]]:
    """What is checked of each server that this run asks for: two at a time, because most of the time is waiting.

    Empty where pytest-xdist shares the tests out: then each of its workers would check them all.
    """
    asked = [
        item.callspec.params["name"]
        for item in request.session.items
        if "ahead" in getattr(item, "fixturenames", ()) and not hasattr(request.config, "workerinput")
    ]
    with ThreadPoolExecutor(2) as pool:
        checks = {name: pool.submit(hung_and_watched, name) for name in asked if not zoo.missing(name)}
        try:
            yield checks
        finally:
            for check in checks.values():
                check.cancel()  # where the run ends early


@pytest.mark.parametrize("name", NAMES)
def test_a_live_server_hangs_as_it_says_and_is_diagnosed_as_it_was_built(
    name: str, ahead: Mapping[str, Future]
) -> None:
    if zoo.missing(name):
        pytest.skip(zoo.missing(name))
    if name in ahead:
        ahead[name].result()
    else:
        hung_and_watched(name)


def hung_and_watched(name: str) -> None:
    with zoo.hang(name) as hung:
        truth = hung.truth
        burnt = cpu_of_all if truth.state in BUSY else cpu_of_main  # another thread may be the one that works
        used = burnt(hung.pid)
        if truth.symptom:
            assert curl(hung.url + truth.symptom, 0.4) == 28
        if truth.control:
            assert curl(hung.url + truth.control, 5) == 0
        if truth.signal:
            assert curl(hung.url + "/health", 0.4) == 7
        used = burnt(hung.pid) - used
        assert not (truth.state in QUIET and used > 0.02), "it works, so it is not stuck"
        assert not (truth.state in BUSY and used < 0.05), "it rests, so it is not busy"
        answer = watched(resolve(hung.pid))
        family, log = [*lab.descendants(hung.pid), hung.pid], hung.server.log
    assert zoo.gone(family) and not log.exists()
    assert as_built(answer, truth), answer
    on_file = record_bundles.expected()[name]["golden"]["confidence"]  # some kinds are never surer than that
    assert answer.confidence > 0.8 or answer.confidence >= on_file or answer.state == "healthy"


@pytest.mark.parametrize("name", ["executor_shutdown", "sleep", "threadpool_limit", "none", "slow_requests"])
def test_uvloop_is_diagnosed_alike(name: str) -> None:
    pytest.importorskip("uvloop")
    with zoo.hang(name, loop="uvloop") as hung:
        answer = watched(resolve(hung.pid))
    assert as_built(answer, hung.truth), answer


def test_a_full_default_executor_resolves_no_names() -> None:
    with zoo.hang("default_executor") as hung:
        assert zoo.ask(hung.url, "/partner", 0.5) == "silence"
        answer = watched(resolve(hung.pid))
    assert as_built(answer, hung.truth), answer


@pytest.mark.parametrize("under, loop, name", SERVED)
def test_the_ill_process_is_found_behind_every_server_program(under: str, loop: str, name: str) -> None:
    if servers.missing(under):
        pytest.skip(servers.missing(under))
    with zoo.hang(name, under=under, loop=loop) as hung:
        answer = watched(on_port(int(hung.url.rpartition(":")[2])))
        if (hung.truth.state, answer.state) == ("healthy", "inconclusive"):  # on a loaded machine; then look again
            answer = watched(on_port(int(hung.url.rpartition(":")[2])))
    assert as_built(answer, hung.truth), answer
    assert answer.process.pid != hung.pid and not answer.bystander


def count_workers(port: int) -> int:
    """With their supervisor; 0 while nobody is seen to listen."""
    try:
        return len(on_port(port).workers)
    except NoProcess:
        return 0


def test_eight_workers_take_little_longer_than_one() -> None:
    """Side by side with each other and their supervisor, and the interpreter that all of them run is measured once."""
    truth = zoo.truth("none")
    with lab.start(truth.folder, truth.app, args=("--workers", "8")) as server:
        port = int(server.url.rpartition(":")[2])
        wait_until(lambda: len(on_port(port).workers) == 9, "start its eight workers")
        evidence, first = timed(on_port(port))
        # what else runs on the machine makes one look longer
        many = min(first, *(timed(on_port(port))[1] for _ in range(2)))
        one = min(timed(Target((on_port(port).workers[1],)))[1] for _ in range(3))
    assert len(evidence) == 9 and all(item.snapshots for item in evidence)
    assert many < 2.5 * one, (many, one)


def timed(target: Target) -> tuple[tuple[Evidence, ...], float]:
    began = time.monotonic()
    return observe_briefly(target, silent), time.monotonic() - began


def wait_until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, f"the server should {what}; it did not within 30 s"
        time.sleep(0.1)


@pytest.mark.parametrize("under", ["uvicorn --workers 2", "uvicorn --reload"])
def test_a_supervisor_and_its_port_lead_to_the_same_worker(under: str) -> None:
    with zoo.hang("sleep", under=under) as hung:
        answers = [watched(resolve(hung.pid)), watched(on_port(int(hung.url.rpartition(":")[2])))]
    for answer in answers:
        assert as_built(answer, hung.truth), answer
        assert answer.process.pid != hung.pid and answer.process.supervisor_pid == hung.pid


def test_workers_are_looked_at_side_by_side() -> None:
    with zoo.hang("none", under="uvicorn --workers 2") as server:
        found = observe_briefly(resolve(server.pid), silent)
    spans = [(one.readings[0].at, one.attached[-1].at) for one in found if one.process.pid != server.pid]
    assert len(spans) == 2 and max(first for first, _ in spans) < min(last for _, last in spans)


def test_a_bundle_elsewhere_says_the_same_as_the_live_process(tmp_path: Path) -> None:
    """Folder and archive, read by a bare Python from another working directory."""
    with zoo.hang("executor_shutdown") as hung:
        live = worst(map(diagnose, observe(resolve(hung.pid), tmp_path / "evidence", silent)))
    archive = pack(tmp_path / "evidence")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for bundle in (archive, tmp_path / "evidence"):
        done = subprocess.run(
            [sys.executable, "-S", "-I", str(HANG), "diagnose", str(bundle), "--json"],
            cwd=elsewhere,
            capture_output=True,
            text=True,
            check=True,
        )
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

        def dying(pid: int, missed: Callable[[str], object]) -> str:
            if len(taken) == 2:
                hung.server.process.kill()
                hung.server.process.wait()
            taken.append(pid)
            return real(pid, missed)

        bundle.pyspy.dump = dying
        try:
            found = observe(resolve(hung.pid), tmp_path / "evidence", lines.append, samples=5)
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
