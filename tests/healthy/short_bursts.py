"""A healthy server that computes in short bursts, and whose pool of 40 threads is full of short calls.

Each second a summary takes a tenth of one, each request a few milliseconds. Whoever looks at the wrong moment finds
the event loop's thread at work, or all of the pool's.
"""

import asyncio
import time
from contextlib import asynccontextmanager

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
CONTROL = "/health"
LOAD = ("/prices", "/orders", "/orders")


def compute(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(500))


async def summarise():
    while True:
        await asyncio.sleep(1)
        compute(0.1)


@asynccontextmanager
async def lifespan(app):
    app.state.job = asyncio.create_task(summarise())
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/prices")
async def prices():
    compute(0.004)
    return {"tea": 3}


@app.get("/orders")
def orders():
    time.sleep(0.05)
    return {"orders": 7}
