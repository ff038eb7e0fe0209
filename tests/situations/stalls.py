"""A background task that sleeps on the loop again and again: short requests get through in between."""

import asyncio
import time

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "sleep"
TRIGGER = ("/follow",)
CLIENT = "is answered"
CONTROL = "/health"

app = FastAPI()
kept = []


@app.get("/health")
async def health():
    return {"status": "ok"}


async def follow():
    while True:
        time.sleep(0.9)  # <-- sleep
        await asyncio.sleep(0.5)


@app.get("/follow")
async def start():
    kept.append(asyncio.create_task(follow()))
    return {"following": True}
