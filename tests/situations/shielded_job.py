"""A healthy server whose requests wait for a job through `shield()`: the job goes on, step by step, for a minute."""

import asyncio

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/import",)
COUNT = 2
CONTROL = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


async def load():
    for _ in range(120):
        await asyncio.sleep(0.5)


@app.get("/import")
async def load_all():
    await asyncio.shield(asyncio.create_task(load()))
    return {"loaded": True}
