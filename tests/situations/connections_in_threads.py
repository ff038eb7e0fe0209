"""`def` handlers wait for a connection of a pool, and others that hold one wait for a slow service."""

import socket

from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool

STATE = "inconclusive"
CAUSE = "connection-pool"
NEEDS = "sqlalchemy"
TRIGGER = ("/report",)
COUNT = 4
CONTROL = "/health"

app = FastAPI()
service = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=2, max_overflow=0, pool_timeout=86_400)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/report")
def report():
    with engine.connect():  # <-- connection-pool
        socket.create_connection(service.getsockname()).recv(1)
