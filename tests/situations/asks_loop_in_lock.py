"""A request holds a lock of asyncio and waits for a call in a thread, which asks the loop for what needs that lock.

The loop is idle, no lock of threads is taken, and the list of tasks alone closes no ring: the thread is a part of it.
"""

import asyncio

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "lock"
TRIGGER = ("/order",)
CONTROL = "/health"

app, ledger = FastAPI(), asyncio.Lock()


@app.get("/health")
async def health():
    return {"status": "ok"}


async def balance():
    async with ledger:  # <-- lock
        return 3


def total(loop):
    found = asyncio.run_coroutine_threadsafe(balance(), loop)
    return found.result()


@app.get("/order")
async def order():
    async with ledger:
        return await asyncio.to_thread(total, asyncio.get_running_loop())
