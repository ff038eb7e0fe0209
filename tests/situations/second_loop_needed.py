"""Another thread's event loop is blocked, and requests wait for what it was given; the server's own loop is fine."""

import asyncio
import socket
import threading

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "socket"
NEEDS_KERNEL = True
TRIGGER = ("/price",)
COUNT = 3
SYMPTOM = "/price"
CONTROL = "/health"

app, asked = FastAPI(), []
market = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
other = asyncio.new_event_loop()
threading.Thread(target=other.run_forever, daemon=True, name="second").start()


@app.get("/health")
async def health():
    return {"status": "ok"}


async def look_up():
    socket.create_connection(market.getsockname()).recv(1)  # <-- socket


@app.get("/price")
async def price():
    asked.append(1)
    if asked[1:]:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(look_up(), other))
    return {"price": 3}
