"""Each snippet is measured: the server without it hangs, the server with it answers."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import lab
from client import eventually, get, reading, slowest

SNIPPETS = Path(__file__).resolve().parent.parent / "snippets"
sys.path.insert(0, str(SNIPPETS))

from stream_executor import stream_results

STREAM_APP = """
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from stream_executor import stream_results

app = FastAPI()
working = set()

def work(seconds, stop):
    working.add(seconds)
    stop.wait(seconds)  # a long call that looks at `stop`
    working.discard(seconds)
    return seconds

async def joined(items):
    with ThreadPoolExecutor(4) as pool:
        loop, stop = asyncio.get_running_loop(), threading.Event()
        for call in asyncio.as_completed([loop.run_in_executor(pool, work, item, stop) for item in items]):
            yield await call

@app.get("/bad")
async def bad():
    return StreamingResponse(f"data: {each}\\n\\n" async for each in joined([0, 30, 31, 32]))

@app.get("/good")
async def good():
    return StreamingResponse(f"data: {each}\\n\\n" async for each in stream_results(work, [0, 30, 31, 32]))

@app.get("/busy")
async def how_many():
    return len(working)

try:
    from fastapi.sse import EventSourceResponse
except ImportError:  # an older FastAPI
    pass
else:
    @app.get("/sse", response_class=EventSourceResponse)
    async def events():
        async for each in stream_results(work, [0, 30, 31, 32]):
            yield each
"""

LIFESPAN_APP = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from fastapi import FastAPI, Request
import lifespan_executor

lifespan_executor.DRAIN = 1.0

@asynccontextmanager
async def joined(app):
    with ThreadPoolExecutor() as pool:
        yield {"pool": pool, "stopping": threading.Event()}

def create(lifespan):
    app = FastAPI(lifespan=lifespan)

    @app.get("/polite")
    async def polite(request: Request):
        request.state.pool.submit(request.state.stopping.wait, 30)

    @app.get("/deaf")
    async def deaf(request: Request):
        request.state.pool.submit(time.sleep, 30)

    return app

bad = create(joined)
good = create(lifespan_executor.executor_lifespan)
"""


@pytest.fixture
def app_dir(tmp_path):
    for name in ("stream_executor.py", "lifespan_executor.py"):
        shutil.copy(SNIPPETS / name, tmp_path)
    (tmp_path / "streams.py").write_text(STREAM_APP)
    (tmp_path / "lifespans.py").write_text(LIFESPAN_APP)
    return tmp_path


def leave(url: str) -> None:
    with reading(url) as stream:
        assert stream.readline() == b"data: 0\n"


@pytest.mark.live
def test_stream_executor_keeps_the_loop_alive_where_a_with_block_hangs_it(app_dir):
    with lab.start(app_dir, "streams:app") as server:
        leave(f"{server.url}/good")
        assert slowest(f"{server.url}/busy", 0.5) < 0.5
        assert eventually(lambda: get(f"{server.url}/busy") == b"0", 2)  # of calls that take 30 s
        leave(f"{server.url}/bad")
        assert eventually(lambda: get(f"{server.url}/busy") is None)
        assert get(f"{server.url}/busy", 2) is None


@pytest.mark.live
def test_stream_executor_ends_its_calls_under_fastapis_own_events_too(app_dir):
    pytest.importorskip("fastapi.sse")
    with lab.start(app_dir, "streams:app") as server:
        leave(f"{server.url}/sse")
        assert eventually(lambda: get(f"{server.url}/busy") == b"0", 2)


def test_stream_executor_starts_no_more_than_the_client_takes():
    started = []

    def work(item: int, stop: threading.Event) -> int:
        started.append(item)
        return item

    async def slow_client() -> None:
        taken = 0
        async for _ in stream_results(work, iter(range(10**9)), workers=3):
            taken += 1
            await asyncio.sleep(0.005)
            assert len(started) <= taken + 3
            if taken == 30:
                break

    asyncio.run(slow_client())
    assert len(started) >= 30


def test_stream_executor_brings_all_results_and_fails_aloud():
    async def collect(items: list[int]) -> list[float]:
        return [each async for each in stream_results(lambda item, stop: 1 / item, items, workers=2)]

    assert sorted(asyncio.run(collect([1, 2, 4, 5, 8]))) == [0.125, 0.2, 0.25, 0.5, 1.0]
    assert asyncio.run(collect([])) == []
    with pytest.raises(ZeroDivisionError):
        asyncio.run(collect([1, 0, 2]))


def test_stream_executor_tells_of_an_error_that_no_future_can_hold_and_of_none_twice(caplog):
    together = threading.Barrier(3)

    def run_out(item: int, stop: threading.Event) -> int:
        return next(iter([]))  # StopIteration

    def fail_together(item: int, stop: threading.Event) -> None:
        together.wait(5)
        raise ValueError(item)

    async def collect(work, count: int) -> None:
        async for _ in stream_results(work, range(count), workers=3):
            pass

    async def go() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(collect(run_out, 1), 5)
        with pytest.raises(ValueError, match=r"^\d$"):
            await collect(fail_together, 3)
        gc.collect()  # "exception was never retrieved" is said by the collector
        await asyncio.sleep(0.05)

    asyncio.run(go())
    assert caplog.records == []


def test_stream_executor_leaves_at_once_and_says_nothing_of_late_errors(caplog):
    begun, told = threading.Event(), threading.Event()

    def work(item: int, stop: threading.Event) -> None:
        begun.set()
        if stop.wait(30):
            told.set()
        raise RuntimeError("too late")

    async def leave_early() -> float:
        task = asyncio.ensure_future(drain(stream_results(work, range(9), workers=2)))
        await asyncio.to_thread(begun.wait, 5)
        began = time.perf_counter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        took = time.perf_counter() - began
        await asyncio.to_thread(told.wait, 5)
        await asyncio.sleep(0.1)
        return took

    async def drain(results) -> None:
        async for _ in results:
            pass

    assert asyncio.run(leave_early()) < 0.2
    assert told.is_set() and caplog.records == []


def seconds_to_stop(server: lab.Server, job: str, patience: float) -> float:
    """Start a job of 30 s, send SIGTERM: how long the server takes to end. Infinite beyond `patience`."""
    assert get(f"{server.url}{job}") == b"null"
    began = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    try:
        server.process.wait(patience)
    except subprocess.TimeoutExpired:
        return float("inf")
    return time.monotonic() - began


@pytest.mark.live
def test_lifespan_executor_stops_where_a_with_block_waits_for_the_job(app_dir):
    with lab.start(app_dir, "lifespans:bad") as server:
        assert seconds_to_stop(server, "/polite", patience=2) == float("inf")
    with lab.start(app_dir, "lifespans:good") as server:
        assert seconds_to_stop(server, "/polite", patience=3) < 1
        lines = [line for line in server.log.read_text().splitlines() if "pool: " in line]
    assert [line.partition("pool: ")[2].split(",")[0] for line in lines] == ["open", "closing", "closed"]


@pytest.mark.live
def test_lifespan_executor_gives_a_deaf_job_its_time_and_no_more(app_dir):
    with lab.start(app_dir, "lifespans:good") as server:
        assert 1 <= seconds_to_stop(server, "/deaf", patience=5) < 3
        assert "pool: left behind, a call still runs after 1 s" in server.log.read_text()


SHELLS = [shell for shell in (["sh"], ["bash"], ["busybox", "sh"]) if shutil.which(shell[0])]


def smoke(shell: list[str], *arguments: str, **options: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*shell, str(SNIPPETS / "smoke_check.sh"), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        **options,
    )


def urls(news: lab.Newsroom) -> list[str]:
    return ["-c", news.health_url, "-u", news.articles_url, "-s", news.stream_url]


@pytest.mark.live
def test_smoke_check_misses_on_the_hang_and_passes_on_the_repair(tmp_path):
    with lab.newsroom(delay=30) as news:
        bad = smoke(SHELLS[0], *urls(news), "-d", "1")
    assert bad.returncode == 1 and bad.stdout.count("MISS") == 2 and "FAILED: 2 missed" in bad.stdout

    lab.overlay(lab.copy_app(tmp_path))
    with lab.newsroom(tmp_path, delay=30) as news:
        for shell in SHELLS:
            good = smoke(shell, *urls(news), "-n", "2")
            assert (good.returncode, good.stderr) == (0, ""), shell
            phases = ["baseline", "while streaming", "after an abort", "at the end"]
            assert [good.stdout.count(phase) for phase in phases] == [2, 4, 4, 2]
            plain = smoke(shell, "-c", news.health_url, "-s", news.health_url)
            assert plain.returncode == 1 and "ended by itself" in plain.stdout
            absent = smoke(shell, "-c", news.health_url, "-s", f"{news.url}/absent")
            assert absent.returncode == 1 and absent.stdout.count("MISS  no first byte from") == 1


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_smoke_check_explains_itself(shell, tmp_path):
    shown = smoke(shell, "-h")
    assert shown.returncode == 0 and shown.stdout.startswith("usage: smoke_check.sh")
    url = "http://127.0.0.1:9/health"
    for wrong in (
        [],
        ["-c"],
        ["-c", url, "-n", "some"],
        ["-c", url, "-n", "0"],
        ["-c", url, "-d", "0"],
        ["-c", url, "-d", "1s"],
        ["-x"],
    ):
        refused = smoke(shell, *wrong)
        assert refused.returncode == 2 and "usage: smoke_check.sh" in refused.stderr, wrong
    found = shutil.which(shell[0])
    missing = smoke([found, *shell[1:]], "-c", url, env={"PATH": str(tmp_path)})
    assert missing.returncode == 2 and "apt-get install curl" in missing.stderr


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.live
def test_smoke_check_ends_its_curl_and_its_folder_on_ctrl_c(app_dir, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with lab.start(app_dir, "streams:app") as server:
        command = [
            *SHELLS[0],
            str(SNIPPETS / "smoke_check.sh"),
            "-c",
            f"{server.url}/busy",
            "-n",
            "1000",
            "-s",
            f"{server.url}/good",
        ]
        check = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        while "while streaming" not in check.stdout.readline():
            pass
        os.killpg(check.pid, signal.SIGINT)
        check.communicate(timeout=10)
        assert check.returncode == 130 and list(folder.iterdir()) == []
        assert eventually(lambda: not alive(check.pid))
