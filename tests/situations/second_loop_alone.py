"""Another thread's event loop is blocked, and nobody waits for it: it may block on purpose, as a consumer does."""

import asyncio
import socket
import threading

from fastapi import FastAPI

STATE = "inconclusive"
CAUSE = "socket"
NEEDS_KERNEL = True
TRIGGER = ("/prices",)
CLIENT = "is answered"
CONTROL = "/health"

app = FastAPI()
market = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
other = asyncio.new_event_loop()
threading.Thread(target=other.run_forever, daemon=True, name="second").start()


@app.get("/health")
async def health():
    return {"status": "ok"}


async def follow():
    socket.create_connection(market.getsockname()).recv(1)  # <-- socket


@app.get("/prices")
async def prices():
    asyncio.run_coroutine_threadsafe(follow(), other)
    return {"following": True}
