"""A Redis that accepts the connection and never answers.

`redis.Redis()` has no timeout unless you give it one: the coroutine reads from the socket for ever.
"""

import socket

import redis
from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "database"
TRIGGER = ("/cart/ada",)
SYMPTOM = "/health"

app = FastAPI()
silent = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
carts = redis.Redis(port=silent.getsockname()[1])


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/cart/{user}")
async def cart(user: str):
    return {"user": user, "items": carts.lrange(f"cart:{user}", 0, -1)}  # <-- database
