"""One bounded thread pool for the whole app, opened and closed by its lifespan, with a log line at each step.

    app = FastAPI(lifespan=executor_lifespan)

    @app.get("/report")
    async def report(request: Request) -> str:
        state = request.app.state
        return await asyncio.get_running_loop().run_in_executor(state.pool, render, state.stopping)

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

from fastapi import FastAPI

WORKERS = 16
DRAIN = 3.0  # seconds that running calls get to end
log = logging.getLogger("uvicorn.error")  # the logger that a plain uvicorn prints


@asynccontextmanager
async def executor_lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Serve with `app.state.pool`, and `app.state.stopping` for long calls to look at."""
    pool = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="app")
    stopping = threading.Event()
    app.state.pool, app.state.stopping = pool, stopping
    log.info("pool: open, %d workers at most", WORKERS)
    try:
        yield
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
