"""A transaction that asks for a second connection, from the pool that lent it the first.

psycopg_pool lends one connection here. The handler holds it while the audit asks for another: it waits for
itself, on the event loop's thread.
"""

import os

from fastapi import FastAPI
from psycopg_pool import ConnectionPool

STATE = "loop-blocked"
CAUSE = "connection-pool"
NEEDS = "postgresql"
TRIGGER = ("/pay",)
SYMPTOM = "/health"

app = FastAPI()
pool = ConnectionPool(os.environ["DATABASE_URL"], min_size=1, max_size=1, timeout=86_400, open=True)


@app.get("/health")
async def health():
    return {"status": "ok"}


def audit(what):
    with pool.connection() as connection:  # <-- connection-pool
        connection.execute("SELECT pg_notify('audit', %s)", (what,))


@app.get("/pay")
async def pay():
    with pool.connection() as connection:
        connection.execute("SELECT 1")
        audit("paid")
    return {"paid": True}
