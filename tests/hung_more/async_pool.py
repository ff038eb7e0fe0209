"""Connections of an async pool that are never given back.

SQLAlchemy's pool for async engines lends two connections here, and each answer keeps one. The third request waits for
a connection in a coroutine: the event loop is idle, and no thread is stuck.
"""

import tempfile
from pathlib import Path

from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

STATE = "tasks-waiting"
CAUSE = "connection-pool"
NEEDS = "aiosqlite greenlet"
NEEDS_KERNEL = True
TRIGGER = ("/stock/tea",)
CLIENT = "is answered"
SYMPTOM = "/stock/milk"
CONTROL = "/health"

app = FastAPI()
file = Path(tempfile.gettempdir()) / "stock.db"
engine = create_async_engine(f"sqlite+aiosqlite:///{file}", poolclass=AsyncAdaptedQueuePool, pool_size=2,
                             max_overflow=0, pool_timeout=86_400)
kept = []


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/stock/{item}")
async def stock(item: str):
    connection = await engine.connect()  # <-- connection-pool
    kept.append(connection)
    found = await connection.execute(text("SELECT 3"))
    return {"item": item, "pieces": found.scalar()}
