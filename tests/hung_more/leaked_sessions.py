"""`def` handlers that keep their connections.

SQLAlchemy's pool lends 5 and then 10 more. Each answer keeps its connection, so the sixteenth waits, and those
that follow fill the 40 threads in which Starlette runs `def` handlers: one that needs no connection waits too.
"""

import tempfile
from pathlib import Path

from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql import text

STATE = "threadpool-exhausted"
CAUSE = "connection-pool"
TRIGGER = ("/orders",)
COUNT = 60
SYMPTOM = "/version"
CONTROL = "/health"

app = FastAPI()
file = Path(tempfile.gettempdir()) / "orders.db"
engine = create_engine(f"sqlite:///{file}", poolclass=QueuePool, pool_timeout=86_400)
sessions = []


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/version")
def version():
    return {"version": "2.4.1"}


@app.get("/orders")
def orders():
    session = Session(engine)
    sessions.append(session)
    return {"orders": session.execute(text("SELECT 3")).scalar()}  # <-- connection-pool
