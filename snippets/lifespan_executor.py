"""One bounded thread pool for the whole app, opened and closed by its lifespan, with a log line at each step.

    app = FastAPI(lifespan=executor_lifespan)

    @app.get("/report")
    async def report(request: Request) -> str:
        pool, stopping = request.state.pool, request.state.stopping
        return await asyncio.get_running_loop().run_in_executor(pool, render, stopping)

Use when   several routes or streams need threads: one pool bounds them, however many clients come and go.
Not when   one stream can fill the pool for long: the others wait in its queue. Then bound each stream too
           (stream_executor.py).
Costs      shutdown takes up to DRAIN seconds. A call that ignores `stopping` goes on after that: uvicorn dies
           of SIGTERM all the same, but after Ctrl-C the interpreter waits for the call. uvicorn closes the
           lifespan after the last connection: give it --timeout-graceful-shutdown if clients hold theirs.
Python     3.9 and later (`cancel_futures`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI

WORKERS = 16
DRAIN = 3.0  # seconds that running calls get to end
log = logging.getLogger("uvicorn.error")  # the logger that a plain uvicorn prints


class State(TypedDict):
    """What each request finds in its `request.state`; long calls look at `stopping`."""

    pool: ThreadPoolExecutor
    stopping: threading.Event


@asynccontextmanager
async def executor_lifespan(app: FastAPI) -> AsyncIterator[State]:
    pool = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="app")
    stopping = threading.Event()
    log.info("pool: open, %d workers at most", WORKERS)
    try:
        yield {"pool": pool, "stopping": stopping}
    finally:
        log.info("pool: closing, queued calls are dropped, running ones get %g s", DRAIN)
        stopping.set()
        pool.shutdown(wait=False, cancel_futures=True)
        if await drained(pool, DRAIN):
            log.info("pool: closed, every call has ended")
        else:
            log.warning("pool: left behind, a call still runs after %g s", DRAIN)


async def drained(pool: ThreadPoolExecutor, seconds: float) -> bool:
    """Wait for the pool's threads without blocking the loop. False if one still runs after `seconds`."""
    # shutdown() has no timeout: a daemon thread waits in it, and can be left behind.
    waiter = threading.Thread(target=pool.shutdown, daemon=True)
    waiter.start()
    end = time.monotonic() + seconds
    while waiter.is_alive() and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return not waiter.is_alive()


if __name__ == "__main__":  # a demonstration: the app ends while a call of 60 s runs

    async def serve() -> None:
        async with executor_lifespan(FastAPI()) as state:
            state["pool"].submit(state["stopping"].wait, 60)

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(serve())
