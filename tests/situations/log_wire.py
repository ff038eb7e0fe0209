"""The log goes to a collector that has stopped reading: the loop waits in a write, which a look from outside ends."""

import contextlib
import logging.handlers
import socket

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "logging"
TRIGGER = ("/entry",)
SYMPTOM = "/health"
RECOVERS = True

collector = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever reads
trail = logging.getLogger("trail")
trail.propagate = False
trail.addHandler(logging.handlers.SysLogHandler(collector.getsockname(), socktype=socket.SOCK_STREAM))

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


def remember(text):
    trail.warning("%s", text)  # <-- logging


@app.get("/entry")
async def entry():
    wire = trail.handlers[0].socket
    wire.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            wire.send(b"e" * 10_000)
    wire.setblocking(True)
    remember("e" * 100_000)
    return {"kept": True}
