"""Do something every N seconds beside the app, and stop within milliseconds: as a thread, and as a task.

    @asynccontextmanager
    async def lifespan(app):
        cleaner = PeriodicThread(remove_old_files, every=60)      # blocking work: a thread
        async with periodic_task(expire_sessions, every=60):     # work that awaits: a task
            yield
        await cleaner.stop_async(3)                              # False where it is still at work

Use when   files, caches or sessions are to be swept while the app runs.
Not when   several worker processes would all sweep, or a run must not be missed: that is a job for cron.
Costs      one thread, or one task. At exit a sweep under way is cut off: make it safe to repeat.
Python     3.9 and later.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Callable

log = logging.getLogger("uvicorn.error")  # the logger that a plain uvicorn prints


class PeriodicThread:
    """Calls `work` every `every` seconds, from now on. A run that fails is logged, and the next one comes."""

    def __init__(self, work: Callable[[], object], every: float) -> None:
        self._work, self._every, self._stopping = work, every, threading.Event()
        self._thread = threading.Thread(target=self._run, name="cleanup", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(self._every):  # a sleep that can be ended
            try:
                self._work()
            except Exception:
                log.exception("cleanup: a run failed")

    def stop(self, seconds: float) -> bool:
        """End it; wait up to `seconds` for a run that is under way. False if that still runs."""
        self._stopping.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    async def stop_async(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self.stop(0) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        return self.stop(0)


@asynccontextmanager
async def periodic_task(work: Callable[[], Awaitable[object]], every: float) -> AsyncIterator[object]:
    """The twin on the event loop: `work` is awaited every `every` seconds until the block is left."""

    async def run() -> None:
        while True:
            await asyncio.sleep(every)
            try:
                await work()
            except Exception:
                log.exception("cleanup: a run failed")

    task = asyncio.ensure_future(run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=3)  # for a `finally` in `work`


if __name__ == "__main__":  # a demonstration
    cleaner = PeriodicThread(lambda: print("swept"), every=0.2)
    time.sleep(0.5)
    print("stopped in time:", cleaner.stop(1))
