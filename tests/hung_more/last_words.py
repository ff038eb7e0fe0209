"""An atexit hook that flushes its spans to a collector, which never answers.

The server has stopped in good order. The interpreter then calls the functions that were registered with `atexit`, on
the main thread, and this one waits.
"""

import atexit
import socket

import requests
from fastapi import FastAPI

STATE = "exit-hang"
CAUSE = "http-client"
TRIGGER = ("/health",)
CLIENT = "is answered"
SIGNAL = "SIGINT"

app = FastAPI()
collector = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@atexit.register
def flush():
    requests.post(f"http://127.0.0.1:{collector.getsockname()[1]}/v1/traces")  # <-- http-client


@app.get("/health")
async def health():
    return {"status": "ok"}
