"""A healthy server with two more event loops, each in a thread of its own, and each blocked nearly all the time.

One polls a sensor and sleeps for a second in between, the other waits for the next item of a queue, a second at a time.
No request waits for either: they block themselves, and nobody else.
"""

import asyncio
import queue
import threading
import time

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
CONTROL = "/health"

readings = queue.Queue()
app = FastAPI()


async def poll():
    while True:
        time.sleep(1)
        await asyncio.sleep(0)


async def store():
    while True:
        try:
            readings.get(timeout=1)
        except queue.Empty:
            await asyncio.sleep(0)


for work in (poll, store):
    threading.Thread(target=lambda run: asyncio.run(run()), args=(work,), daemon=True).start()


@app.get("/health")
async def health():
    return {"status": "ok"}
