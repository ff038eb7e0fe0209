"""Requests queue for an asyncio.Lock whose holder awaits a peer, which has been silent for long."""

import asyncio
import socket

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "socket"
NEEDS_KERNEL = True
TRIGGER = ("/quote",)
COUNT = 3
CONTROL = "/health"

app, lock = FastAPI(), asyncio.Lock()
broker = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/quote")
async def quote():
    async with lock:
        reader, _ = await asyncio.open_connection(*broker.getsockname())
        return await reader.readline()  # <-- socket
