"""Connections that are never given back.

Each answer keeps its result, and a result keeps its connection. The pool lends two, so the third request waits
for one, on the event loop's thread: now nobody can give one back any more.
"""

import tempfile
from pathlib import Path

from fastapi import FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool

STATE = "loop-blocked"
CAUSE = "connection-pool"
TRIGGER = ("/stock/tea", "/stock/milk", "/stock/rice")
SYMPTOM = "/health"

app = FastAPI()
file = Path(tempfile.gettempdir()) / "stock.db"
engine = create_engine(f"sqlite:///{file}", poolclass=QueuePool, pool_size=2, max_overflow=0, pool_timeout=86_400)
answers = {}


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/stock/{item}")
async def stock(item: str):
    connection = engine.connect()  # <-- connection-pool
    answers[item] = connection.execute(text("SELECT 3 UNION SELECT 4"))
    return {"item": item, "pieces": answers[item].fetchone()[0]}
