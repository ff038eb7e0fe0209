"""Services that own threads, started and stopped by one lifespan, within one grace, with a log line a step.

    app = FastAPI(lifespan=services)        # its routes: await request.app.state.reports.render("sales")

Use when   several classes of an app make a `ThreadPoolExecutor` in `__init__`: close them here, and not in
           `__del__`, `atexit`, a signal handler or `on_event`.
Not when   they could share one pool: lifespan_executor.py is shorter.
Costs      stopping takes up to GRACE seconds in all. Calls have to look at `stopping`; where one does not,
           the log names its service, and at the end the process ends in the middle of that call.
Python     3.9 and later (`cancel_futures`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI

GRACE = 3.0  # seconds until all of it is over
LAST_RESORT = 0.3  # the last of them: for the interpreter's exit, where a call was left behind
log = logging.getLogger("uvicorn.error")  # the logger that a plain uvicorn prints


class Threads:
    """A bounded pool, the event that its calls look at, and a stop that cannot hang."""

    def __init__(self, name: str, workers: int) -> None:
        self.name, self.pool, self.stopping = name, ThreadPoolExecutor(workers, name), threading.Event()
        log.info("%s: started, %d workers at most", name, workers)

    def tell(self) -> None:
        log.info("%s: told to stop, queued calls are dropped", self.name)
        self.stopping.set()
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def ended(self, until: float) -> bool:
        """Wait, without blocking the loop, up to that time of time.monotonic()."""
        waiter = threading.Thread(target=self.pool.shutdown, daemon=True)
        waiter.start()
        while waiter.is_alive() and time.monotonic() < until:
            await asyncio.sleep(0.02)
        log.info("%s: %s", self.name, "LEFT BEHIND, a call still runs" if waiter.is_alive() else "stopped")
        return not waiter.is_alive()


class ReportService:
    def __init__(self) -> None:
        self.threads = Threads("reports", workers=4)

    async def render(self, name: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(self.threads.pool, self._render, name)

    def _render(self, name: str) -> str:
        pages = 0
        while pages < 600 and not self.threads.stopping.wait(0.05):  # in place of the work on one page
            pages += 1
        return f"{name}: {pages} pages"


@asynccontextmanager
async def services(app: FastAPI) -> AsyncIterator[None]:
    app.state.reports, app.state.analysis = ReportService(), Threads("analysis", workers=2)
    running = [app.state.analysis, app.state.reports.threads]  # the last started first
    try:
        yield
    finally:
        until = time.monotonic() + GRACE - LAST_RESORT
        for each in running:
            each.tell()
        if not all([await each.ended(until) for each in running]):
            threading.Timer(LAST_RESORT, os._exit, [1]).start()
        log.info("services: all done")


if __name__ == "__main__":  # a demonstration

    async def demonstrate() -> None:
        app = FastAPI()
        async with services(app):
            left = asyncio.ensure_future(app.state.reports.render("sales"))
            await asyncio.sleep(0.3)
        print("stopped; the report that was under way:", await left)

    asyncio.run(demonstrate())
