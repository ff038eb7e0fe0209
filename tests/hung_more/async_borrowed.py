"""A coroutine that asks an async pool for a second connection, and keeps the first meanwhile.

psycopg_pool lends two. Two requests take one each, and each then waits for another, for its audit: nobody can give one
back. All of it happens in coroutines; the loop is idle.
"""

import asyncio
import os
from contextlib import asynccontextmanager

from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool

STATE = "tasks-waiting"
CAUSE = "connection-pool"
NEEDS = "postgresql"
NEEDS_KERNEL = True
TRIGGER = ("/pay",)
COUNT = 2
SYMPTOM = "/balance"
CONTROL = "/health"

pool = AsyncConnectionPool(os.environ["DATABASE_URL"], min_size=2, max_size=2, timeout=86_400, open=False)
paying = []


@asynccontextmanager
async def lifespan(app):
    await pool.open(wait=True)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


async def audit(what):
    async with pool.connection() as connection:  # <-- connection-pool
        await connection.execute("SELECT pg_notify('audit', %s)", (what,))


@app.get("/pay")
async def pay():
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")
        paying.append(connection)
        while len(paying) < 2:
            await asyncio.sleep(0.01)
        await audit("paid")
    return {"paid": True}


@app.get("/balance")
async def balance():
    async with pool.connection() as connection:  # <-- connection-pool
        found = await connection.execute("SELECT 3")
        return {"balance": (await found.fetchone())[0]}
