"""Run CPU work in processes: the event loop keeps its turn, and all cores are used.

    app = FastAPI(lifespan=cpu_lifespan)

    @app.get("/prime/{number}")
    async def prime(number: int, request: Request) -> bool:
        return await run_cpu(request.app, is_prime, number)

Use when   a handler computes for more than some 10 ms in pure Python: that blocks or slows every request.
Not when   the work drops the GIL (hashing, compression, most of numpy): a thread will do, and costs less.
Costs      a process for each worker, and pickling: pass ids, not data, to a function at the top of a module.
           A client that leaves does not end the work. Where a worker dies, the next call gets a new pool.
Python     3.9 and later. Not under hypercorn's worker processes, which may have no children (-w 0 has none).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import asynccontextmanager
from typing import Callable, TypeVar

from fastapi import FastAPI

WORKERS = max(1, (os.cpu_count() or 2) - 1)  # one core stays for the loop
Result = TypeVar("Result")


def new_pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn"), begin)  # a fork inherits locks


def begin() -> None:  # in each worker: leave Ctrl-C to the server, and end with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow, daemon=True).start()


def follow() -> None:
    server = multiprocessing.parent_process()
    if server:
        server.join()
        os._exit(1)


@asynccontextmanager
async def cpu_lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Serve with `app.state.cpu`; at the end no worker is left, whatever it computes."""
    app.state.cpu = new_pool()
    try:
        yield
    finally:
        workers = list((getattr(app.state.cpu, "_processes", None) or {}).values())  # private
        waiter = threading.Thread(target=app.state.cpu.shutdown, kwargs={"cancel_futures": True}, daemon=True)
        waiter.start()
        for worker in workers:
            worker.terminate()  # or it would outlive a server that SIGTERM ends
        for _ in range(100):
            await asyncio.sleep(0.01 if waiter.is_alive() else 0)


async def run_cpu(app: FastAPI, work: Callable[..., Result], *args: object) -> Result:
    """`work(*args)` in a process. Raises what it raises, and BrokenProcessPool where its process died."""
    pool = app.state.cpu
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *args)
    except BrokenExecutor:
        if app.state.cpu is pool:
            app.state.broken, app.state.cpu = pool, new_pool()  # kept: collected now, its thread may lock up
        raise


if __name__ == "__main__":  # a demonstration
    with new_pool() as pool:
        print("2 ** 100 =", pool.submit(pow, 2, 100).result())
