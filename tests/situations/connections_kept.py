"""`def` handlers that keep their connections: two are left waiting, and no other thread is at work."""

from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool

STATE = "threadpool-exhausted"
CAUSE = "connection-pool"
NEEDS = "sqlalchemy"
TRIGGER = ("/report",)
COUNT = 4
SYMPTOM = "/report"
CONTROL = "/health"

app = FastAPI()
engine = create_engine(
    "sqlite://", poolclass=QueuePool, pool_size=2, max_overflow=0, pool_timeout=86_400, pool_reset_on_return=None
)
kept = []


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/report")
def report():
    kept.append(engine.connect())  # <-- connection-pool
    return {"report": 3}
