"""A request waits for a future that nobody is seen to complete: no thread is at work, and no task."""

import asyncio
from concurrent.futures import Future

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "other"
TRIGGER = ("/quote",)
CONTROL = "/health"

app, asked = FastAPI(), []


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/quote")
async def quote():
    asked.append(Future())
    return await asyncio.wrap_future(asked[-1])  # <-- other
