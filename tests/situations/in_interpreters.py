"""A handler waits for a peer on the loop, beside a pool of interpreters that have nothing to do.

py-spy reads the newest interpreter alone, and that one runs nothing. Before Python 3.14 it is a pool of threads.
"""

import socket
from concurrent import futures

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "socket"
TRIGGER = ("/stock",)
SYMPTOM = "/health"

bank = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
pool = getattr(futures, "InterpreterPoolExecutor", futures.ThreadPoolExecutor)(2)
pool.submit(len, "abc").result()

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/stock")
async def stock():
    with socket.create_connection(bank.getsockname()) as line:
        return line.recv(64)  # <-- socket
