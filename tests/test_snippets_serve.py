"""Snippets about serving: limits, processes, sessions, health, and what watches over the loop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from urllib.parse import urlsplit

import psutil
import pytest

import lab
from client import eventually, get, reading, slowest
from hangdebug.answer.diagnose import diagnose
from hangdebug.evidence.model import Evidence
from hangdebug.evidence.paste import read
from snippet_lab import SNIPPETS, held, lay_out, seconds_to_stop, use_snippets

use_snippets()


@pytest.fixture
def folder(tmp_path):
    return lay_out(tmp_path)


@pytest.fixture
def serving(folder):
    with lab.start(folder, "serving:app") as server:
        yield server


def answer(url: str, timeout: float = 2.0) -> tuple[int, dict]:
    """Status and body of any answer."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    try:
        connection.request("GET", urlsplit(url).path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def begin(stack: ExitStack, url: str, count: int) -> None:
    """Send `count` requests and leave their answers unread until the stack is closed."""
    for _ in range(count):
        connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
        connection.request("GET", urlsplit(url).path)
        stack.callback(connection.close)


# -- threads ---------------------------------------------------------------------------------------------


@pytest.mark.live
def test_slow_calls_with_a_limiter_of_their_own_do_not_starve_def_routes(serving):
    url = serving.url
    with ExitStack() as stack:
        begin(stack, f"{url}/good/slow", 5)
        assert eventually(lambda: answer(f"{url}/slow-use")[1] == {"busy": 2, "threads": 2, "waiting": 3})
        assert slowest(f"{url}/quick", 0.5) < 0.5
        status, body = answer(f"{url}/good/slow")  # the queue is full
        assert status == 503 and body == {"detail": "too much slow work is under way"}
        begin(stack, f"{url}/bad/slow", 4)
        assert eventually(lambda: get(f"{url}/quick", 0.5) is None)
        assert answer(f"{url}/health/ready")[0] == 200  # the loop itself is well
        get(f"{url}/release")
        assert eventually(lambda: get(f"{url}/quick") is not None)


def test_a_burst_is_refused_as_well():
    from thread_limiter import SlowWork

    release = threading.Event()

    async def go() -> tuple[int, dict]:
        slow = SlowWork(threads=2, queue=3)
        calls = [asyncio.ensure_future(slow.run(release.wait, 5)) for _ in range(100)]  # none of them has begun yet
        _, _waiting = await asyncio.wait(calls, timeout=0.2)
        use = slow.use()
        release.set()
        await asyncio.wait(calls)
        refused = [call for call in calls if call.exception()]
        assert {call.exception().status_code for call in refused} == {503} and slow.use()["busy"] == 0
        assert await slow.run(int) == 0  # there is room again
        return len(refused), use

    assert asyncio.run(go()) == (95, {"busy": 2, "threads": 2, "waiting": 3})


# -- health ----------------------------------------------------------------------------------------------


@pytest.mark.live
def test_readiness_tells_a_full_thread_pool_a_lagging_loop_and_an_end_while_liveness_stays(serving):
    url = serving.url
    status, body = answer(f"{url}/health/ready")
    assert (status, body["status"], body["threads"]) == (200, "ready", 4)
    with ExitStack() as stack:
        begin(stack, f"{url}/bad/slow", 4 + 11)
        assert eventually(lambda: answer(f"{url}/health/ready")[1]["calls_waiting"] == 11)
        status, body = answer(f"{url}/health/ready")
        assert status == 503 and body["threads_busy"] == 4 and "calls wait for a thread" in body["status"]
        assert get(f"{url}/quick", 0.5) is None  # what a client sees
        assert answer(f"{url}/health/live")[0] == 200
        get(f"{url}/release")
    assert eventually(lambda: answer(f"{url}/health/ready")[0] == 200)
    with ThreadPoolExecutor(2) as aside:
        lag = aside.submit(get, f"{url}/lag", 3)
        time.sleep(0.2)
        status, body = aside.submit(answer, f"{url}/health/ready", 3).result()  # answered first after the stall
        assert lag.result() is not None and status == 503 and "the loop lags" in body["status"]
    assert answer(f"{url}/health/ready")[1]["worst_lag_seconds"] > 0.5
    get(f"{url}/closing")
    status, body = answer(f"{url}/health/ready")
    assert status == 503 and "the app stops" in body["status"] and answer(f"{url}/health/live")[0] == 200


# -- processes -------------------------------------------------------------------------------------------


@pytest.mark.live
def test_cpu_work_in_a_process_leaves_the_loop_free(serving):
    url = serving.url
    with ThreadPoolExecutor(1) as aside:
        good = aside.submit(get, f"{url}/good/cpu", 15)
        assert eventually(lambda: workers(serving.pid), 10)
        assert slowest(f"{url}/health/live", 0.5) < 0.5
        assert good.result() == b"true"
        bad = aside.submit(get, f"{url}/bad/cpu", 15)
        assert eventually(lambda: get(f"{url}/health/live", 0.5) is None)
        assert bad.result() == b"true"


def workers(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.live
def test_a_pool_of_processes_survives_a_dead_worker(serving):
    url = serving.url
    assert get(f"{url}/cpu/die", 15) is None
    assert get(f"{url}/good/cpu", 15) == b"true"


@pytest.mark.live
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_no_worker_process_outlives_the_server(folder, number):
    """Without the lab's own start-up module, by which the kernel ends what a server leaves behind."""
    grace, plain = ("--timeout-graceful-shutdown", "1"), {"PYTHONPATH": ""}
    with lab.start(folder, "serving:app", args=grace, env=plain) as server, ExitStack() as stack:
        assert get(f"{server.url}/cpu/short", 15) == b"0"  # its worker is no longer on its way up
        begin(stack, f"{server.url}/cpu/long", 1)
        left = workers(server.pid)
        stack.callback(lambda: [lab.kill(pid) for pid in left])
        assert eventually(lambda: any(psutil.Process(pid).cpu_percent(0.1) > 20 for pid in left))
        assert seconds_to_stop(server, number) < 3
        assert eventually(lambda: not any(map(psutil.pid_exists, left)), 2)


@pytest.mark.live
def test_a_ctrl_c_while_a_worker_starts_ends_the_server_too(folder):
    with lab.start(folder, "serving:app", args=("--timeout-graceful-shutdown", "1")) as server, ExitStack() as stack:
        begin(stack, f"{server.url}/cpu/long", 1)
        assert eventually(lambda: workers(server.pid), 10)
        began = time.monotonic()
        os.killpg(server.pid, signal.SIGINT)  # as a terminal does: the worker does not ignore it yet
        server.process.wait(5)
        assert time.monotonic() - began < 3 and not lab.descendants(server.pid)


# -- a database ------------------------------------------------------------------------------------------


@pytest.fixture
def exporting(folder):
    pytest.importorskip("aiosqlite")
    pytest.importorskip("greenlet")
    with lab.start(folder, "exporting:app", env={"DATABASE": str(folder / "rows.db")}) as server:
        yield server


@pytest.mark.live
def test_streams_page_by_page_leave_connections_for_others(exporting):
    url = exporting.url
    with held(f"{url}/good", 6):
        assert slowest(f"{url}/one", 1) < 1
        assert answer(f"{url}/facts")[1]["lent"] <= 2
    with held(f"{url}/bad", 2):
        assert answer(f"{url}/facts")[1]["lent"] == 2
        assert get(f"{url}/one", 3) is None  # the pool is dry


@pytest.mark.live
def test_every_row_comes_once_and_in_order(exporting):
    with reading(f"{exporting.url}/good") as stream:
        found = [stream.readline() for _ in range(16)]
    assert found[::2] == [b"data: %d\n" % number for number in range(8)]


@pytest.mark.live
def test_a_dropped_stream_gives_its_connection_back_where_a_plain_finally_loses_it(exporting):
    url = exporting.url
    for _ in range(8):
        with held(f"{url}/good/finally", 1):
            pass
        assert eventually(lambda: answer(f"{url}/facts")[1]["lent"] == 0)
    assert answer(f"{url}/facts")[1]["made"] == 1  # one connection, used eight times
    for count in (1, 2):
        with held(f"{url}/bad/finally", 1):
            pass
        assert not eventually(lambda count=count: answer(f"{url}/facts")[1]["lent"] < count, 0.5)
    assert get(f"{url}/one", 3) is None  # two readers left, and the pool of two is dry
    assert answer(f"{url}/facts")[1]["finished"] == []  # nothing after the first await of the `finally` was run


# -- the watchdog ----------------------------------------------------------------------------------------


def cause_in(log: str) -> tuple[str, str, int | None]:
    found = diagnose(Evidence(tuple(read(log))))
    return found.state, found.cause, found.blocking_frame and found.blocking_frame.line


def line_of(text: str) -> int:
    lines = (SNIPPETS.parent / "tests" / "snippet_apps" / "serving.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


WAITS = f'serving.py", line {line_of("asyncio.sleep(30)")}'


@pytest.mark.live
def test_the_watchdog_writes_stacks_and_tasks_of_a_stall_that_the_engine_can_read(folder):
    with lab.start(folder, "serving:app", env={"STALL": "0.4"}) as server, ExitStack() as stack:
        begin(stack, f"{server.url}/wait", 1)
        assert slowest(f"{server.url}/health/live", 1) < 0.5
        assert "Timeout (" not in server.log.read_text()  # a healthy loop is not reported
        begin(stack, f"{server.url}/block", 1)
        assert eventually(lambda: "watchdog: the loop's last turn began" in server.log.read_text())
        time.sleep(1.5)
        log = server.log.read_text()
    assert log.count("Timeout (0:00:00.4") == 1 and log.count("watchdog: the loop's last turn") == 1  # once a stall
    stalled = log[log.index("Timeout (") :]
    assert f'serving.py", line {line_of("<-- sleep")} in block' in stalled
    assert "Stack for <Task" in stalled and f"{WAITS} in wait" in stalled
    assert cause_in(stalled)[::2] == ("loop-blocked", line_of("<-- sleep"))


@pytest.mark.live
def test_the_watchdog_answers_a_signal_and_the_server_goes_on(folder):
    grace = ("--timeout-graceful-shutdown", "1")
    with lab.start(folder, "serving:app", env={"STALL": "30"}, args=grace) as server, ExitStack() as stack:
        begin(stack, f"{server.url}/wait", 1)
        assert slowest(f"{server.url}/health/live", 0.3) < 0.5
        os.kill(server.pid, signal.SIGUSR1)
        assert eventually(lambda: f"{WAITS} in wait" in server.log.read_text())
        log = server.log.read_text()
        assert 0 < log.index("most recent call first") < log.index("the loop's last turn began")
        assert slowest(f"{server.url}/health/live", 0.3) < 0.5
        os.kill(server.pid, signal.SIGUSR1)
        assert eventually(lambda: server.log.read_text().count("the loop's last turn began") == 2)
        stack.close()
        assert seconds_to_stop(server) < 3


def test_the_watchdog_calls_the_handler_that_was_there(tmp_path):
    from loop_watchdog import watchdog

    called: list[int] = []

    async def go() -> None:
        with (tmp_path / "log").open("w") as file:
            async with watchdog(5, file):
                signal.raise_signal(signal.SIGUSR1)
                for _ in range(100):
                    if "the loop's last turn" in (tmp_path / "log").read_text():
                        break
                    await asyncio.sleep(0.02)

    before = signal.signal(signal.SIGUSR1, ours := lambda number, frame: called.append(number))
    try:
        asyncio.run(go())
        assert called == [signal.SIGUSR1] and signal.getsignal(signal.SIGUSR1) is ours
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert "watchdog: the loop's last turn" in (tmp_path / "log").read_text()


# -- the guard -------------------------------------------------------------------------------------------

GUARDED = """
import asyncio, time
import pytest
from loop_guard import loop_guard

pytestmark = [pytest.mark.usefixtures("loop_guard"), pytest.mark.anyio]

@pytest.fixture
def anyio_backend():
    return "asyncio"

async def test_waits():
    await asyncio.sleep(0.3)
    await asyncio.to_thread(time.sleep, 0.3)

@pytest.mark.parametrize("number", range(20))
async def test_awaits_nothing(number):  # so the guard's own thread has not been answered when it is to end
    pass

async def test_blocks():
    time.sleep(0.4)

async def test_blocks_in_a_task():
    async def handler():
        time.sleep(0.4)
    await asyncio.create_task(handler())

def test_no_coroutine():
    pass
"""


@pytest.mark.live
def test_the_guard_fails_the_test_that_blocks_and_no_other(folder):
    pytest.importorskip("pyleak")
    (folder / "test_guarded.py").write_text(GUARDED)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", "test_guarded.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    verdicts = {
        line.split("::")[1].split(" ")[0]: line.split(" ")[0]
        for line in done.stdout.splitlines()
        if line.startswith(("PASSED", "FAILED", "ERROR"))
    }
    assert {verdicts.pop(f"test_awaits_nothing[{number}]") for number in range(20)} == {"PASSED"}, done.stdout
    assert verdicts == {
        "test_waits": "PASSED",
        "test_blocks": "FAILED",
        "test_blocks_in_a_task": "FAILED",
        "test_no_coroutine": "ERROR",
    }, done.stdout
    assert done.stdout.count("time.sleep(0.4)") >= 2 and "await the handler itself" in done.stdout
