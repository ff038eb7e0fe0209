"""Snippets about stopping: the server without them hangs on its way out, the server with them is gone in time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

import lab
import servers
from client import eventually
from snippet_lab import NEVER, SNIPPETS, ask, held, lay_out, said, seconds_to_stop, use_snippets

use_snippets()

from bounded_drain import drain, drain_async, running
from periodic_cleanup import PeriodicThread, periodic_task
from uvicorn_signals import until

GRACE = 1.0  # of tests/snippet_apps/stopping.py
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
STEPS = [
    "stop: {signal}, open streams end now",
    "cleanup: stopped",
    "analysis: told to stop, queued calls are dropped",
    "reports: told to stop, queued calls are dropped",
    "analysis: stopped",
    "reports: {reports}",
    "services: all done",
]


@pytest.fixture
def folder(tmp_path):
    return lay_out(tmp_path)


# -- the whole: signals, services and a cleanup thread in one app ----------------------------------------


@pytest.mark.live
@SIGNALS
@pytest.mark.parametrize(
    "job, reports", [("/job", "stopped"), ("/deaf", "LEFT BEHIND, a call still runs")], ids=["polite", "deaf"]
)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_stop_with_busy_workers_and_ten_streams_keeps_within_the_grace(folder, number, job, reports, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    with lab.start(folder, "stopping:good", args=("--timeout-graceful-shutdown", "1", "--loop", loop)) as server:
        ask(server.url, *[job] * 4)
        with held(f"{server.url}/events", 10):
            assert seconds_to_stop(server, number) <= GRACE + 0.5
        steps = [step.format(signal=number.name, reports=reports) for step in STEPS]
        assert (
            said(
                server,
                "stop:",
                "cleanup:",
                "analysis: t",
                "analysis: stopped",
                "reports: t",
                f"reports: {reports}",
                "services:",
            )
            == steps
        )
        assert "Traceback" not in server.log.read_text()


@pytest.mark.live
@SIGNALS
def test_without_the_snippets_a_stream_a_worker_or_a_cleanup_thread_holds_the_exit(folder, number):
    def with_a_stream() -> None:
        with lab.start(folder, "stopping:bad") as server:
            with held(f"{server.url}/events", 1):
                assert seconds_to_stop(server, number, patience=2) == NEVER
            assert "Waiting for connections to close" in server.log.read_text()

    def with_a_job() -> None:
        with lab.start(folder, "stopping:bad") as server:
            ask(server.url, "/job")
            assert seconds_to_stop(server, number, patience=2) == NEVER

    with ThreadPoolExecutor(2) as aside:
        for tried in [aside.submit(with_a_stream), aside.submit(with_a_job)]:
            tried.result()


@pytest.mark.live
def test_a_cleanup_thread_that_nobody_stops_holds_the_interpreter_after_ctrl_c(folder):
    with lab.start(folder, "stopping:bad") as server:
        assert seconds_to_stop(server, signal.SIGINT, patience=2) == NEVER
        assert "Finished server process" in server.log.read_text()  # uvicorn is done, Python is not
    with lab.start(folder, "stopping:good") as server:
        assert seconds_to_stop(server, signal.SIGINT) < 1


def test_a_signal_that_nothing_handles_is_left_to_the_system():
    from uvicorn_signals import told_to_stop

    async def go() -> list[object]:
        async with told_to_stop():
            return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    interrupt, terminate = asyncio.run(go())
    assert terminate is signal.SIG_DFL and interrupt is not signal.getsignal(signal.SIGINT)


@pytest.mark.live
@pytest.mark.parametrize("kind", ["uvicorn --workers 2", "uvicorn --reload", "gunicorn"])
def test_a_ctrl_c_ends_supervisors_and_their_workers_too(folder, kind):
    if servers.missing(kind):
        pytest.skip(servers.missing(kind))
    with servers.start(kind, folder, "stopping:good") as server:
        ask(server.url, *["/job"] * 4)
        with held(f"{server.url}/events", 10):
            family = [server.pid, *lab.descendants(server.pid)]
            began = time.monotonic()
            os.killpg(server.pid, signal.SIGINT)
            server.process.wait(5)
            assert time.monotonic() - began <= GRACE + 0.5
        log = server.log.read_text()
        assert len(family) > 1 and eventually(lambda: not any(map(psutil.pid_exists, family)), 2)
        assert "open streams end now" in log and "services: all done" in log and "Traceback" not in log


# -- streams that end ------------------------------------------------------------------------------------


def test_until_hands_on_everything_ends_on_the_event_and_closes_what_is_behind():
    ended = []

    async def items(count):
        try:
            for number in range(count):
                yield number
                await asyncio.sleep(0)
            await asyncio.sleep(30)
        finally:
            ended.append(count)

    async def short():
        yield 1

    async def go():
        closing = asyncio.Event()
        assert [item async for item in until(closing, short())] == [1]
        asyncio.get_running_loop().call_later(0.1, closing.set)
        assert [item async for item in until(closing, items(3))] == [0, 1, 2]
        assert ended == [3]
        assert [item async for item in until(closing, items(4))] == []  # the stop has come before
        closing.clear()
        stream = until(closing, items(5))
        await stream.__anext__()
        await stream.aclose()  # the client left between two items
        assert ended == [3, 5]
        task = asyncio.ensure_future(_all(until(closing, items(6))))
        await asyncio.sleep(0.05)
        task.cancel()  # the client left while the next item was awaited
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [3, 5, 6]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(go())


async def _all(items) -> list:
    return [item async for item in items]


def test_until_raises_what_its_items_raise():
    async def fails():
        yield 1
        raise ValueError("no more")

    async def go():
        with pytest.raises(ValueError, match="no more"):
            await _all(until(asyncio.Event(), fails()))

    asyncio.run(go())


# -- the drain -------------------------------------------------------------------------------------------


def a_call_that_runs(release: threading.Event, begun: threading.Event) -> None:
    begun.set()
    release.wait(30)


def busy(prefix: str) -> tuple[ThreadPoolExecutor, threading.Event]:
    pool, release, begun = ThreadPoolExecutor(1, thread_name_prefix=prefix), threading.Event(), threading.Event()
    pool.submit(a_call_that_runs, release, begun)
    pool.submit(pytest.fail, "queued, so never begun")
    assert begun.wait(5)
    return pool, release


def test_a_drain_waits_as_long_as_told_and_names_what_still_runs():
    pool, release = busy("slow")
    began = time.monotonic()
    left = drain(pool, "slow", 0.3)
    assert 0.3 <= time.monotonic() - began < 0.6
    assert len(left) == 1 and left[0].startswith("slow_0: a_call_that_runs (test_snippets_stop.py:")
    release.set()
    assert eventually(lambda: not running("slow")) and drain(pool, "slow", 5) == []


def test_a_drain_names_the_calls_of_its_pool_and_of_no_other():
    (pool, release), (_, other) = busy("app"), busy("app_slow")
    left = drain(pool, "app", 0.05)
    release.set()
    other.set()
    assert len(left) == 1 and left[0].startswith("app_0: ")


@pytest.mark.slow
def test_a_shutdown_has_no_such_limit():
    pool, release = busy("unbounded")
    waiting = threading.Thread(target=pool.shutdown)
    waiting.start()
    waiting.join(1)
    assert waiting.is_alive()
    release.set()
    waiting.join(5)


def test_the_drain_of_a_coroutine_lets_the_loop_go_on():
    async def go() -> int:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        pool, release = busy("coroutine")
        task = asyncio.ensure_future(turn())
        assert len(await drain_async(pool, "coroutine", 0.5)) == 1
        task.cancel()
        release.set()
        assert await drain_async(pool, "coroutine", 5) == []
        return turns

    assert asyncio.run(go()) > 15


SCRIPT = """
import logging, sys, threading
from concurrent.futures import ThreadPoolExecutor
from bounded_drain import drain, exit_within
pool = ThreadPoolExecutor(1, thread_name_prefix="work")
pool.submit(threading.Event().wait, 30)
print(drain(pool, "work", 0.2), flush=True)
if "locked" in sys.argv:  # a call that hangs in a log handler
    stuck = logging.StreamHandler()
    threading.Thread(target=stuck.acquire).start()
if len(sys.argv) > 1:
    exit_within(0.3, 7)
"""


@pytest.mark.slow
def test_the_last_resort_ends_a_process_that_its_threads_would_hold():
    def run(*arguments: str, patience: float = 3) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments],
            cwd=SNIPPETS,
            capture_output=True,
            text=True,
            timeout=patience,
            env={"PYTHONDONTWRITEBYTECODE": "1"},
        )

    for how in ("bounded", "locked"):
        done = run(how)
        assert done.returncode == 7 and "['work_0: wait (threading.py:" in done.stdout
    with pytest.raises(subprocess.TimeoutExpired):
        run(patience=1.5)


# -- the cleanup -----------------------------------------------------------------------------------------


def test_a_periodic_thread_works_goes_on_after_a_failure_and_stops_at_once(caplog):
    runs = []

    def work() -> None:
        runs.append(1)
        if len(runs) == 2:
            raise OSError("disk full")

    cleaner = PeriodicThread(work, every=0.01)
    assert eventually(lambda: len(runs) > 4)
    began = time.monotonic()
    assert cleaner.stop(5) and time.monotonic() - began < 0.1
    count = len(runs)
    time.sleep(0.05)
    assert len(runs) == count and "cleanup: a run failed" in caplog.text and "disk full" in caplog.text


@pytest.mark.slow
def test_a_periodic_thread_that_is_deep_in_its_sleep_stops_at_once_where_a_sleeping_loop_does_not():
    cleaner = PeriodicThread(lambda: None, every=60)
    began = time.monotonic()
    assert cleaner.stop(5) and time.monotonic() - began < 0.1

    stopping = threading.Event()

    def deaf() -> None:
        while not stopping.is_set():
            time.sleep(60)

    thread = threading.Thread(target=deaf, daemon=True)
    thread.start()
    stopping.set()
    thread.join(1)
    assert thread.is_alive()


def test_a_sweep_that_hangs_is_reported():
    release, begun = threading.Event(), threading.Event()
    cleaner = PeriodicThread(lambda: (begun.set(), release.wait(30)), every=0)
    assert begun.wait(5) and not cleaner.stop(0.1)
    assert not asyncio.run(cleaner.stop_async(0.1))
    release.set()
    assert asyncio.run(cleaner.stop_async(5))


def test_a_periodic_thread_is_stopped_from_a_loop_whose_default_executor_is_full():
    async def go() -> None:
        release, loop = threading.Event(), asyncio.get_running_loop()
        for _ in range(40):
            loop.run_in_executor(None, release.wait, 30)
        try:
            await PeriodicThread(lambda: None, every=60).stop_async(1)
            bad = PeriodicThread(lambda: None, every=60)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.to_thread(bad.stop, 1), 0.3)
        finally:
            release.set()

    asyncio.run(go())


def test_the_asyncio_twin_works_goes_on_after_a_failure_and_is_gone_afterwards(caplog):
    async def go() -> int:
        runs = []

        async def work() -> None:
            runs.append(1)
            if len(runs) == 2:
                raise OSError("disk full")

        async with periodic_task(work, every=0.01) as task:
            for _ in range(500):
                await asyncio.sleep(0.01)
                if len(runs) > 4:
                    break
        assert task.cancelled()
        return len(runs)

    assert asyncio.run(go()) > 4
    assert "disk full" in caplog.text
