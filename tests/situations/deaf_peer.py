"""A request sends a report to a printer that has stopped to read: `drain()` waits until it does."""

import asyncio
import socket

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "socket"
NEEDS_KERNEL = True
TRIGGER = ("/report",)
COUNT = 2
CONTROL = "/health"

app = FastAPI()
printer = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever reads


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/report")
async def report():
    _, writer = await asyncio.open_connection(*printer.getsockname())
    for _ in range(200):
        writer.write(b"page\n" * 20_000)
        await writer.drain()  # <-- socket
    return {"printed": True}
