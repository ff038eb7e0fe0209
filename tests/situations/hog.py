"""A background task that computes a second at a time, and lets others run for some milliseconds in between."""

import asyncio
import time

from fastapi import FastAPI

STATE = "loop-busy"
CAUSE = "cpu-bound"
TRIGGER = ("/train",)
CLIENT = "is answered"

app = FastAPI()
kept = []


@app.get("/health")
async def health():
    return {"status": "ok"}


def step(seconds):
    end, total = time.monotonic() + seconds, 0
    while time.monotonic() < end:  # <-- cpu-bound
        total += 1  # <-- cpu-bound
    return total


async def train():
    while True:
        step(0.6)
        await asyncio.sleep(0.006)


@app.get("/train")
async def start():
    kept.append(asyncio.create_task(train()))
    return {"training": True}
