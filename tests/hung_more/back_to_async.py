"""`async_to_sync` under a lock that the event loop's thread wants too.

Django and asgiref let a sync view call back: `async_to_sync` hands its coroutine to the event loop and waits. The view
holds the stock's lock meanwhile, and a coroutine takes the same lock on the loop's thread: each waits for the other.
"""

import asyncio
import threading

from asgiref.sync import async_to_sync, sync_to_async
from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "run-coroutine-threadsafe"
NEEDS = "asgiref"
TRIGGER = ("/stock/import", "/stock/tea")
SYMPTOM = "/health"

app = FastAPI()
stock = {"tea": 3}
stock_lock = threading.Lock()


@app.get("/health")
async def health():
    return {"status": "ok"}


async def delivered():
    await asyncio.sleep(5)
    return {"tea": 4}


def import_stock():
    with stock_lock:
        stock.update(async_to_sync(delivered)())


@app.get("/stock/import")
async def start_import():
    return await sync_to_async(import_stock)()


@app.get("/stock/{item}")
async def pieces(item: str):
    while not stock_lock.locked():
        await asyncio.sleep(0.01)
    with stock_lock:  # <-- run-coroutine-threadsafe
        return {"item": item, "pieces": stock[item]}
