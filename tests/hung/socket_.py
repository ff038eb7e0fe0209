"""A raw socket read in a coroutine.

The route asks a warehouse scanner over its own line protocol and waits for the answer with `recv`. The scanner
accepts the connection and says nothing. `recv` is written in C: the stack ends in the user's own line.
"""

import socket

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "socket"
TRIGGER = ("/stock/4711",)
SYMPTOM = "/health"

app = FastAPI()
scanner = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


def count(article):
    with socket.create_connection(scanner.getsockname()) as line:
        line.sendall(f"COUNT {article}\n".encode())
        return int(line.recv(1024))  # <-- socket


@app.get("/stock/{article}")
async def stock(article: int):
    return {"article": article, "stock": count(article)}
