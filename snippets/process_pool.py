"""Run CPU work in processes: the event loop keeps its turn, and all cores are used.

    app = FastAPI(lifespan=cpu_lifespan)

    @app.get("/prime/{number}")
    async def prime(number: int, request: Request) -> bool:
        return await run_cpu(request.app, is_prime, number)

Use when   a handler computes for more than some 10 ms in pure Python: on the loop it blocks every request,
           in a thread it takes turns with the loop for the GIL, and so slows every request.
Not when   the work drops the GIL (hashing, compression, most of numpy): a thread will do, and costs less.
Costs      a process for each worker, and pickling of arguments and result: pass ids, not data. The function
           has to be importable: at the top of a module, no lambda. A client that leaves does not end the
           work; what must end has to check a deadline by itself. A worker that dies (out of memory) breaks
           the pool: the call raises BrokenProcessPool, and the next one gets a new pool.
Python     3.9 and later. Not under hypercorn's worker processes, which may have no children (-w 0 has none).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from typing import Callable, TypeVar

from fastapi import FastAPI

WORKERS = max(1, (os.cpu_count() or 2) - 1)  # one core stays for the loop
Result = TypeVar("Result")


def new_pool() -> ProcessPoolExecutor:
    # spawn: a fork of a process with threads inherits locks that nobody will release.
    return ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn"), begin)


def begin() -> None:
    """In each worker: leave Ctrl-C, which the whole group gets, to the server; and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = multiprocessing.parent_process()

    def follow() -> None:
        if server:
            server.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@asynccontextmanager
async def cpu_lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Serve with `app.state.cpu`; at the end no worker is left, whatever it computes."""
    app.state.cpu = new_pool()
    try:
        yield
    finally:
        pool = app.state.cpu
        workers, manager = list((pool._processes or {}).values()), pool._executor_manager_thread  # private
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()  # or it would outlive a server that SIGTERM ends
        until = time.monotonic() + 1
        while manager and manager.is_alive() and time.monotonic() < until:  # Python's exit stumbles over it
            await asyncio.sleep(0.01)


async def run_cpu(app: FastAPI, work: Callable[..., Result], *args: object) -> Result:
    """`work(*args)` in a process. Raises what it raises, and BrokenProcessPool where its process died."""
    pool = app.state.cpu
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *args)
    except BrokenProcessPool:
        if app.state.cpu is pool:
            app.state.broken, app.state.cpu = pool, new_pool()  # kept: collected now, its thread may lock up
        raise
