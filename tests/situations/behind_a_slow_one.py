"""Requests queue for an asyncio.Lock whose holder awaits a peer: it may be slow, or silent for ever."""

import asyncio
import socket

from fastapi import FastAPI

STATE = "inconclusive"
CAUSE = "lock"
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
    async with lock:  # <-- lock
        reader, _ = await asyncio.open_connection(*broker.getsockname())
        return await reader.readline()
