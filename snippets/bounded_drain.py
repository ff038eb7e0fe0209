"""Stop a thread pool, wait at most N seconds for it, and say what still runs.

    left = await drain_async(pool, "report", seconds=3)      # in a coroutine; drain() in a script, a thread
    if left:
        exit_within(1)                              # only where the process is to end

Use when   a pool has to be closed and a call in it may hang: `shutdown(wait=True)` has no timeout at all.
Not when   the calls look at a stop event and have timeouts: then `shutdown()` in a thread is enough.
Costs      a daemon thread for the wait. Nothing can end a call that still runs: at exit the interpreter joins
           it. `exit_within` cuts that off, and every `finally` and `atexit` function that has not run.
Python     3.9 and later (`cancel_futures`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

MACHINERY = ("threading.py", "concurrent/futures/thread.py")


def drain(pool: ThreadPoolExecutor, prefix: str, seconds: float) -> list[str]:
    """Drop queued calls, let running ones end. What still runs then, as "report_0: render (app.py:7)"."""
    waiter = stop(pool)
    waiter.join(seconds)
    return running(prefix) if waiter.is_alive() else []


async def drain_async(pool: ThreadPoolExecutor, prefix: str, seconds: float) -> list[str]:
    """The same without blocking the loop, and without an executor of its own."""
    waiter, end = stop(pool), time.monotonic() + seconds
    while waiter.is_alive() and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return running(prefix) if waiter.is_alive() else []


def stop(pool: ThreadPoolExecutor) -> threading.Thread:
    pool.shutdown(wait=False, cancel_futures=True)
    waiter = threading.Thread(target=pool.shutdown, name="drain", daemon=True)  # it may be left behind
    waiter.start()
    return waiter


def running(prefix: str) -> list[str]:
    """The calls that the threads of that name are in now."""
    frames, found = getattr(sys, "_current_frames", dict)(), []  # CPython's own
    for thread in threading.enumerate():
        if thread.name.rpartition("_")[0] == prefix and thread.ident in frames:
            stack = traceback.extract_stack(frames[thread.ident])
            own = [one for one in stack if not one.filename.replace("\\", "/").endswith(MACHINERY)]
            call = own[0] if own else stack[-1]
            if call.name != "_worker":  # it has no call
                found.append(f"{thread.name}: {call.name} ({os.path.basename(call.filename)}:{call.lineno})")
    return found


def exit_within(seconds: float, code: int = 1) -> None:
    """The last resort: end the process by then, whatever still runs. Logs are flushed, nothing else is."""

    def end() -> None:
        time.sleep(seconds)
        flush = threading.Thread(target=logging.shutdown, daemon=True)  # it may hang in a handler's lock
        flush.start()
        flush.join(0.5)
        os._exit(code)

    threading.Thread(target=end, name="last-resort", daemon=True).start()


if __name__ == "__main__":  # a demonstration: a call of 2 s, and half a second of patience
    reports = ThreadPoolExecutor(1, "report")
    reports.submit(lambda: time.sleep(2))
    print("still running:", drain(reports, "report", seconds=0.5))
