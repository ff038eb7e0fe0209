"""A healthy server whose request waits for a group of two approvals, which later requests will give."""

import asyncio

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/both",)
CONTROL = "/health"

app, first, second = FastAPI(), asyncio.Event(), asyncio.Event()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/both")
async def both():
    async with asyncio.TaskGroup() as group:
        group.create_task(first.wait())
        group.create_task(second.wait())
    return {"approved": True}


@app.get("/approve/{number}")
async def approve(number: int):
    (first if number == 1 else second).set()
