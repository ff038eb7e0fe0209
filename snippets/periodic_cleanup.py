"""Do something every N seconds beside the app, and stop within milliseconds: as a thread, and as a task.

    @asynccontextmanager
    async def lifespan(app):
        cleaner = PeriodicThread(remove_old_files, every=60)      # blocking work: a thread
        async with periodic_task(expire_sessions, every=60):     # work that awaits: a task
            yield
        if not await cleaner.stop_async(3):
            log.warning("cleanup: still at work after 3 s, left behind")

Use when   files, caches or sessions are to be swept while the app runs.
Not when   several worker processes would all sweep, or a run must not be missed: that is a job for cron.
Costs      one thread, or one task. A sweep under way is waited for, up to the timeout of `stop`. The thread
           is a daemon, so that one that hangs cannot hold the interpreter's exit (it is cut off in the
           middle: make each sweep safe to repeat). A task is cancelled instead.
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
        self._work, self._every = work, every
        self._stopping = threading.Event()
        # `while True: work(); time.sleep(every)` would be deaf: an Event is a sleep that can be ended.
        self._thread = threading.Thread(target=self._run, name="cleanup", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
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
        """The same on the loop, without blocking it; nor does a full default executor hold it up."""
        end = time.monotonic() + seconds
        while not self.stop(0) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        return self.stop(0)


@asynccontextmanager
async def periodic_task(work: Callable[[], Awaitable[object]], every: float) -> AsyncIterator[None]:
    """The twin on the event loop: `work` is awaited every `every` seconds until the block is left."""

    async def run() -> None:
        while True:
            await asyncio.sleep(every)
            try:
                await work()
            except Exception:
                log.exception("cleanup: a run failed")

    task = asyncio.ensure_future(run())  # kept: the loop holds its tasks by weak references only
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=3)  # for a `work` that has a `finally` of its own
