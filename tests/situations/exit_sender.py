"""A library's exit hook joins a thread of the library's, which waits for a collector: no frame is the application's."""

import atexit
import logging.handlers
import queue
import socket

from fastapi import FastAPI

STATE = "exit-hang"
CAUSE = "interpreter-exit"
NEEDS_KERNEL = True
TRIGGER = ("/step",)
CLIENT = "is answered"
SIGNAL = "SIGINT"

collector = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
sender = logging.handlers.HTTPHandler(f"127.0.0.1:{collector.getsockname()[1]}", "/logs", "POST")
listener = logging.handlers.QueueListener(queue.Queue(), sender)
listener.start()
atexit.register(listener.stop)

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/step")
async def step():
    listener.queue.put(logging.makeLogRecord({"msg": "a step"}))
    return {"step": 1}
