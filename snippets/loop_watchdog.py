"""When the event loop stalls, or on SIGUSR1, write all stacks and all tasks: evidence without a debugger.

    async with watchdog(limit=5):     # in a lifespan. kill -USR1 PID: what does it do now?
        yield                         # hang.py diagnose app.log: reads what was written

Use when   a hang comes once a week, or where nobody may attach: the process reports on itself, in time.
Not when   py-spy can be used while it hangs: `hang.py capture` sees more (the kernel, lines of code).
Costs      a timer and a thread. Paths go into the log. While C code holds the GIL, the tasks come after it.
Python     3.9 and later. SIGUSR1 where there is one (not on Windows).
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TextIO, cast


@asynccontextmanager
async def watchdog(limit: float = 5.0, file: TextIO = sys.stderr) -> AsyncIterator[None]:
    """Watch the running loop. `limit` is in seconds; `file` needs a descriptor of its own."""
    loop, asked, last = asyncio.get_running_loop(), threading.Event(), time.monotonic()

    async def beat() -> None:
        nonlocal last
        while True:
            last = time.monotonic()
            faulthandler.dump_traceback_later(limit, file=file)  # each beat puts it off
            await asyncio.sleep(limit / 4)

    def watch(told: float = 0.0) -> None:  # of a stall once
        while since := last:
            if (time.monotonic() - since > limit and told != since) or (asked.wait(limit / 4) and last):
                told = since
                asked.clear()
                print(f"watchdog: the loop's last turn began {time.monotonic() - since:.1f} s ago", file=file)
                print("".join(map(stack_of, asyncio.all_tasks(loop))), file=file, flush=True)

    task = asyncio.ensure_future(beat())
    on_signal = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGUSR1")
    if on_signal:
        before: Any = signal.getsignal(signal.SIGUSR1)

        def answer(number: int, frame: object) -> None:
            asked.set()
            if callable(before):  # gunicorn's worker has one
                before(number, frame)

        signal.signal(signal.SIGUSR1, answer)
        faulthandler.register(signal.SIGUSR1, file=file, chain=True)  # stacks first, then the handler
    threading.Thread(target=watch, name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        task.cancel()
        faulthandler.cancel_dump_traceback_later()
        if on_signal:
            faulthandler.unregister(signal.SIGUSR1)
            signal.signal(signal.SIGUSR1, before)
        last = 0.0
        asked.set()


def stack_of(task: asyncio.Task[Any]) -> str:
    """Its chain of awaits, as faulthandler prints one: task.print_stack() shows only the outermost."""
    steps = {"cr_frame": "cr_await", "gi_frame": "gi_yieldfrom", "ag_frame": "ag_await"}
    lines, step = [], cast(Any, task.get_coro())
    while (kind := next((key for key in steps if hasattr(step, key)), "")) and (at := getattr(step, kind)):
        step = getattr(step, steps[kind])
        lines.append(f'  File "{at.f_code.co_filename}", line {at.f_lineno} in {at.f_code.co_name}\n')
        if type(step).__name__.startswith("async_generator_"):  # of one of its steps: it knows which
            step = next((each for each in gc.get_referents(step) if hasattr(each, "ag_frame")), None)
    return f"Stack for {task!r} (most recent call first):\n" + "".join(reversed(lines))


if __name__ == "__main__":  # a demonstration: what it writes goes to standard error

    async def demonstrate() -> None:
        async with watchdog(limit=0.3):
            await asyncio.sleep(0.1)
            time.sleep(1)  # the stall
            await asyncio.sleep(0.1)

    asyncio.run(demonstrate())
    print("the loop stalled for 1 s, and the process has said where")
