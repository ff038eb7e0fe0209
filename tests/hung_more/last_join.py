"""A lifespan that joins its pool while the process is told to stop.

On SIGTERM uvicorn runs the end of the lifespan on the event loop's thread. `shutdown()` waits there for a worker that
waits for a mail gateway.
"""

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import requests
from fastapi import FastAPI

STATE = "exit-hang"
CAUSE = "executor-shutdown"
TRIGGER = ("/letters/send",)
CLIENT = "is answered"
SIGNAL = "SIGTERM"

gateway = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
outbox = ThreadPoolExecutor(max_workers=1)


@asynccontextmanager
async def lifespan(app):
    yield
    outbox.shutdown()  # <-- executor-shutdown


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/letters/send")
async def send():
    outbox.submit(requests.post, f"http://127.0.0.1:{gateway.getsockname()[1]}/send")
    return {"queued": True}
