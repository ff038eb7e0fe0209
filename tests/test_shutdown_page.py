"""What references/shutdown.md says: its output is the notebook's, and each fact that it builds on holds here."""

from __future__ import annotations

import asyncio
import inspect
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI

import lab
from refresh_notebook import SHUTDOWN, opened
from snippet_lab import NEVER, ask, held, lay_out, seconds_to_stop
from test_notebook import ROOT, everything
from test_package import pythons

PAGE = ROOT / "references" / "shutdown.md"


def shape(text: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "N", text)


@pytest.mark.slow
def test_the_output_on_the_page_is_the_notebook_s():
    blocks = re.findall(r"^```text\n(.*?)\n```$", PAGE.read_text(), re.M | re.S)
    real = shape(everything(opened(SHUTDOWN)))
    assert len(blocks) == 3 and all(shape(block) in real for block in blocks)


@pytest.mark.slow
def test_the_crowds_on_the_executors_page_are_the_notebook_s():
    block = re.findall(r"^```text\n(.*?)\n```$", (ROOT / "references" / "executors.md").read_text(), re.M | re.S)
    assert len(block) == 1 and shape(block[0]) in shape(everything(opened(SHUTDOWN)))


def test_the_clocks_on_the_page_are_those_of_the_snippets():
    import yaml

    compose = yaml.safe_load((ROOT / "snippets" / "debug.compose.yaml").read_text())["services"]["app"]
    rows = re.findall(r"^\| (the platform's|uvicorn's|yours).*\| (\d+) s \|$", PAGE.read_text(), re.M)
    dockerfile = compose["build"]["dockerfile_inline"]
    grace = re.search(r"^GRACE = ([\d.]+)", (ROOT / "snippets" / "service_lifespan.py").read_text(), re.M)[1]
    shown = {name: int(number) for name, number in rows}
    assert shown["the platform's"] == int(compose["stop_grace_period"].rstrip("s"))
    assert shown["uvicorn's"] == int(re.search(r'--timeout-graceful-shutdown", "(\d+)"', dockerfile)[1])
    assert shown["yours"] == float(grace) and shown["the platform's"] > shown["uvicorn's"] + shown["yours"]


ATEXIT = """
import atexit, time
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(lambda: (time.sleep(0.3), print("the call ended")))
atexit.register(print, "atexit ran")
"""


@pytest.mark.slow
@pytest.mark.parametrize("python", pythons())
def test_atexit_comes_after_the_pools_were_joined(python):
    done = subprocess.run([python, "-c", ATEXIT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["the call ended", "atexit ran"]


def test_on_event_is_ignored_beside_a_lifespan():
    @asynccontextmanager
    async def lifespan(app):
        yield

    ran: list[str] = []
    app = FastAPI(lifespan=lifespan)
    with pytest.warns(DeprecationWarning, match="on_event"):
        app.on_event("shutdown")(lambda: ran.append("shutdown"))

    async def live() -> None:
        async with app.router.lifespan_context(app):
            pass

    asyncio.run(live())
    assert ran == []


def test_the_default_executor_has_a_limit_from_python_3_12_on():
    takes = inspect.signature(asyncio.BaseEventLoop.shutdown_default_executor).parameters
    assert ("timeout" in takes) == (sys.version_info >= (3, 12))
    if sys.version_info >= (3, 12):
        assert asyncio.constants.THREAD_JOIN_TIMEOUT == 300


TWICE = """
import asyncio
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

@asynccontextmanager
async def lifespan(app):
    try:
        yield
        print("after the yield", flush=True)
    finally:
        await asyncio.sleep(0.1)
        print("in the finally", flush=True)

app = FastAPI(lifespan=lifespan)

async def ticks():
    while True:
        yield "data: tick\\n\\n"
        await asyncio.sleep(0.1)

@app.get("/ticks")
async def endless():
    return StreamingResponse(ticks())
"""


@pytest.mark.live
def test_a_second_ctrl_c_leaves_only_the_finally_of_the_lifespan(tmp_path):
    (tmp_path / "twice.py").write_text(TWICE)
    for number, last in ((signal.SIGTERM, NEVER), (signal.SIGINT, 2)):
        with lab.start(tmp_path, "twice:app") as server, held(f"{server.url}/ticks", 1):
            assert seconds_to_stop(server, number, patience=0.5) == NEVER
            took, log = seconds_to_stop(server, number, patience=2), server.log.read_text()
            assert took == NEVER if last == NEVER else took < last
    assert "in the finally" in log and "after the yield" not in log


DAEMON = """
import asyncio, threading, time
from concurrent.futures import ThreadPoolExecutor
from fastapi import FastAPI
app = FastAPI()

@app.get("/pool")
async def pool():
    ThreadPoolExecutor(1).submit(time.sleep, 30)

@app.get("/default")
async def default():
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 30)

@app.get("/thread")
async def thread():
    threading.Thread(target=time.sleep, args=(30,)).start()

@app.get("/daemon")
async def daemon():
    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
"""


@pytest.mark.live
@pytest.mark.parametrize(
    "path, after_sigint", [("/pool", NEVER), ("/default", NEVER), ("/thread", NEVER), ("/daemon", 1.5)]
)
def test_sigterm_ends_what_sigint_waits_for(tmp_path, path, after_sigint):
    lay_out(tmp_path)
    (tmp_path / "threads.py").write_text(DAEMON)

    def stop(number: int) -> float:
        with lab.start(tmp_path, "threads:app") as server:
            ask(server.url, path)
            return seconds_to_stop(server, number, patience=2)

    with ThreadPoolExecutor(2) as aside:
        terminated, interrupted = aside.map(stop, (signal.SIGTERM, signal.SIGINT))
    assert terminated < 1.5
    assert interrupted == NEVER if after_sigint == NEVER else interrupted < after_sigint
