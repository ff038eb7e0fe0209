"""A service with two executors, a cleanup thread and a stream, as it is often written, and done right.

`uvicorn stopping:bad`, `stopping:good`: POST nothing, GET /job (30 s that look at `stopping`), GET /deaf (30 s that
do not), GET /events (a stream without an end).
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import SimpleNamespace

import service_lifespan
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from periodic_cleanup import PeriodicThread
from uvicorn_signals import told_to_stop, until

service_lifespan.GRACE = 1.0


async def ticks():
    while True:
        yield "data: tick\n\n"
        await asyncio.sleep(0.1)


async def unbounded(closing, items):
    async for item in items:
        yield item


@asynccontextmanager
async def as_often_written(app: FastAPI):
    def sweep() -> None:
        while True:
            time.sleep(60)

    reports, analysis = ThreadPoolExecutor(4), ThreadPoolExecutor(2)
    threading.Thread(target=sweep, name="cleanup").start()
    app.state.reports = SimpleNamespace(threads=SimpleNamespace(pool=reports, stopping=threading.Event()))
    app.state.closing, app.state.until = None, unbounded
    yield
    reports.shutdown(wait=True)
    analysis.shutdown(wait=True)


@asynccontextmanager
async def done_right(app: FastAPI):
    async with told_to_stop() as closing, service_lifespan.services(app):
        app.state.closing, app.state.until = closing, until
        cleaner = PeriodicThread(lambda: None, every=60)
        yield
        service_lifespan.log.info("cleanup: %s", "stopped" if await cleaner.stop_async(1) else "left behind")


def create(lifespan) -> FastAPI:
    app = FastAPI(lifespan=lifespan)

    @app.get("/job")
    async def job(request: Request):
        threads = request.app.state.reports.threads
        threads.pool.submit(threads.stopping.wait, 30)

    @app.get("/deaf")
    async def deaf(request: Request):
        request.app.state.reports.threads.pool.submit(time.sleep, 30)

    @app.get("/events")
    async def events(request: Request):
        state = request.app.state
        return StreamingResponse(state.until(state.closing, ticks()), media_type="text/event-stream")

    return app


bad, good = create(as_often_written), create(done_right)
