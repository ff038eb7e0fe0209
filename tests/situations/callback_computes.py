"""A callback on the loop computes for ever: no task runs it, so none tells one request from the next."""

import asyncio

from fastapi import FastAPI

STATE = "loop-busy"
CAUSE = "cpu-bound"
TRIGGER = ("/index",)
CLIENT = "is answered"
SYMPTOM = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


def index():
    total = 0
    while True:
        total += 1  # <-- cpu-bound


@app.get("/index")
async def start():
    asyncio.get_running_loop().call_later(0.1, index)
    return {"indexed": False}
