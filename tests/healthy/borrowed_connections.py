"""A healthy server whose two connections are always lent out, and come back.

A request borrows a connection by `async with`, or through a dependency. The function that gives it back stands in no
task's stack: it runs when the block is left.
"""

import asyncio
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/report", "/export")
COUNT = 4
CONTROL = "/health"


class Lease:
    def __init__(self, pool):
        self.pool = pool

    async def __aenter__(self):
        self.connection = await self.pool.get()
        return self.connection

    async def __aexit__(self, *raised):
        give_back(self.pool, self.connection)


def give_back(pool, connection):
    pool.put_nowait(connection)


async def connection():
    one = await app.state.pool.get()
    try:
        yield one
    finally:
        give_back(app.state.pool, one)


@asynccontextmanager
async def lifespan(app):
    app.state.pool = asyncio.Queue()
    for number in range(2):
        give_back(app.state.pool, number)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


async def query(number):
    await asyncio.sleep(3)
    return {"rows": number}


@app.get("/report")
async def report():
    async with Lease(app.state.pool) as number:
        return await query(number)


@app.get("/export")
async def export(number: int = Depends(connection)):
    return await query(number)
