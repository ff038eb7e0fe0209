"""A healthy server whose requests wait for a call of C in the default pool: its threads show no frame but the pool's."""

import asyncio
import time

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/nap",)
COUNT = 2
CONTROL = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/nap")
async def nap():
    await asyncio.to_thread(time.sleep, 60)
    return {"slept": True}
