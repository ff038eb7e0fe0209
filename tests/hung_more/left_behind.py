"""A thread that is no daemon keeps a stopped server alive.

uvicorn is done, and the interpreter joins every thread that is not a daemon before it ends. This one reads from a
broker that sends nothing.
"""

import socket
import threading
from contextlib import asynccontextmanager

from fastapi import FastAPI

STATE = "exit-hang"
CAUSE = "interpreter-exit"
TRIGGER = ("/health",)
CLIENT = "is answered"
SIGNAL = "SIGINT"

broker = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


def listen():
    with socket.create_connection(broker.getsockname()) as line:
        line.recv(1024)  # <-- interpreter-exit


@asynccontextmanager
async def lifespan(app):
    threading.Thread(target=listen, name="broker").start()
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}
