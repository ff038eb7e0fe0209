"""Slow `def` routes, CPU work, a stream of rows, health routes: as often written (/bad), with the snippets (/good)."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import AsyncExitStack, asynccontextmanager

import health
from fastapi import FastAPI, Request
from loop_watchdog import watchdog
from process_pool import cpu_lifespan, run_cpu
from thread_limiter import SlowWork, size_default

STALL = float(os.environ.get("STALL", "0"))  # seconds, for the watchdog; 0 is none


@asynccontextmanager
async def lifespan(app: FastAPI):
    size_default(4)
    app.state.slow = SlowWork(threads=2, queue=3)
    async with AsyncExitStack() as stack:
        if STALL:
            await stack.enter_async_context(watchdog(STALL))
        await stack.enter_async_context(cpu_lifespan(app))
        await stack.enter_async_context(health.lag_meter(app))
        yield


app = FastAPI(lifespan=lifespan)
app.include_router(health.router)
release = threading.Event()


@app.get("/quick")
def quick():
    return "a def route"


@app.get("/bad/slow")
def bad_slow():
    return release.wait(30)


@app.get("/good/slow")
async def good_slow(request: Request):
    return await request.app.state.slow.run(release.wait, 30)


@app.get("/slow-use")
async def slow_use(request: Request):
    return request.app.state.slow.use()


@app.get("/release")
async def let_go():
    release.set()


def count_to(seconds: float) -> int:
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number += 1
    return number


def die() -> None:
    os._exit(1)


@app.get("/bad/cpu")
async def bad_cpu():
    return count_to(2) > 0


@app.get("/good/cpu")
async def good_cpu(request: Request):
    return await run_cpu(request.app, count_to, 2) > 0


@app.get("/cpu/short")
async def short_cpu(request: Request):
    return await run_cpu(request.app, int)


@app.get("/cpu/long")
async def long_cpu(request: Request):
    return await run_cpu(request.app, count_to, 60)


@app.get("/cpu/die")
async def deadly(request: Request):
    return await run_cpu(request.app, die)


@app.get("/block")
async def block():
    time.sleep(30)  # <-- sleep


@app.get("/lag")
async def lag():
    time.sleep(0.8)


@app.get("/wait")
async def wait():
    await asyncio.sleep(30)


@app.get("/closing")
async def closing(request: Request):
    request.app.state.closing = True
