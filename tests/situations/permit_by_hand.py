"""A permit that is taken by hand and never given back: the second request waits for ever."""

import asyncio

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "lock"
NEEDS_KERNEL = True
TRIGGER = ("/export",)
COUNT = 3
SYMPTOM = "/export"
CONTROL = "/health"

app, permits = FastAPI(), asyncio.Semaphore(1)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/export")
async def export():
    await permits.acquire()  # <-- lock
    return {"exported": True}
