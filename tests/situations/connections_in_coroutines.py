"""Requests await a connection of an HTTP client's pool, and others that hold one await a slow service."""

import socket

import httpx
from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "connection-pool"
NEEDS = "httpx"
NEEDS_KERNEL = True
TRIGGER = ("/quote",)
COUNT = 4
CONTROL = "/health"

app = FastAPI()
broker = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
client = httpx.AsyncClient(limits=httpx.Limits(max_connections=2), timeout=None, trust_env=False)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/quote")
async def quote():
    answer = await client.get(f"http://127.0.0.1:{broker.getsockname()[1]}/")  # <-- connection-pool
    return {"quote": answer.text}
