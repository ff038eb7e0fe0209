"""Stop a thread pool, wait at most N seconds for it, and say what still runs.

    left = drain(pool, "report", seconds=3)         # blocks: in a script, or a thread
    left = await drain_async(pool, "report", seconds=3)      # in a lifespan or a coroutine
    if left:
        log.warning("still running: %s", "; ".join(left))
        exit_within(1)                              # only where the process is to end

Use when   a pool has to be closed and a call in it may hang: `shutdown(wait=True)` has no timeout at all.
Not when   the calls look at a stop event and have timeouts: then `shutdown()` in a thread is enough.
Costs      one daemon thread for the time of the wait. A call that still runs is not ended: nothing can end
           a thread. At exit the interpreter joins it, however long that takes; `exit_within` cuts that off,
           and with it every other thread, `finally` block and `atexit` function that has not run.
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

MACHINERY = ("threading.py", "concurrent/futures/thread.py")  # below the call that was submitted


def drain(pool: ThreadPoolExecutor, prefix: str, seconds: float) -> list[str]:
    """Drop queued calls, let running ones end. What runs after `seconds`, as "report_0: render (app.py:7)".

    `prefix` is the pool's `thread_name_prefix`.
    """
    waiter = stop(pool)
    waiter.join(seconds)
    return running(prefix) if waiter.is_alive() else []


async def drain_async(pool: ThreadPoolExecutor, prefix: str, seconds: float) -> list[str]:
    """The same without blocking the loop. Needs no executor, so a full default executor is no hindrance."""
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
    frames, found = sys._current_frames(), []
    for thread in threading.enumerate():
        if thread.name.rpartition("_")[0] == prefix and thread.ident in frames:
            stack = traceback.extract_stack(frames[thread.ident])
            own = [one for one in stack if not one.filename.replace("\\", "/").endswith(MACHINERY)]
            call = (own or stack[-1:])[0]
            if call.name != "_worker":  # where a thread without a call waits for one
                found.append(f"{thread.name}: {call.name} ({os.path.basename(call.filename)}:{call.lineno})")
    return found


def exit_within(seconds: float, code: int = 1) -> None:
    """The last resort: end the process by then, whatever still runs. Logs are flushed, nothing else is."""

    def end() -> None:
        time.sleep(seconds)
        flush = threading.Thread(target=logging.shutdown, daemon=True)
        flush.start()
        flush.join(0.5)  # a call that hangs in a log handler holds its lock
        os._exit(code)

    threading.Thread(target=end, name="last-resort", daemon=True).start()
