"""Two tasks await each other, and a request awaits both."""

import asyncio

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "other"
NEEDS_KERNEL = True
TRIGGER = ("/both",)
CONTROL = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/both")
async def both():
    tasks = {}

    async def turn(other):
        await tasks[other]  # <-- other

    tasks.update({name: asyncio.create_task(turn(other)) for name, other in (("one", "two"), ("two", "one"))})
    return await asyncio.gather(*tasks.values())
