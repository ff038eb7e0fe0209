"""A request's deadline has passed and ended nothing: the loop below takes the cancellation as one more error."""

import asyncio

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "queue"
TRIGGER = ("/offer",)
CONTROL = "/health"

app = FastAPI()
offers = []


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/add")
async def add():
    for one in offers:
        one.put_nowait(3)


async def next_offer():
    offers.append(asyncio.Queue())
    while True:
        try:
            return await offers[-1].get()  # <-- queue
        except BaseException:
            continue


@app.get("/offer")
async def offer():
    return {"offer": await asyncio.wait_for(next_offer(), 0.2)}
