"""Requests write into AnyIO's memory stream, which is full: its only reader has returned, and left it open."""

from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "queue"
TRIGGER = ("/note",)
COUNT = 4
CONTROL = "/health"


@asynccontextmanager
async def lifespan(app):
    app.state.inlet, outlet = anyio.create_memory_object_stream(1)
    app.state.outlet = outlet

    async def write_first_note():
        async for _ in outlet:
            return

    async with anyio.create_task_group() as group:
        group.start_soon(write_first_note)
        yield
        group.cancel_scope.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/note")
async def note():
    await app.state.inlet.send("note")  # <-- queue
    return {"noted": True}
