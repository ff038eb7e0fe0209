"""Requests wait for an event that nobody sets: the task that should set it has failed.

`/reload` clears the event and starts a task that loads the prices. That one ends with an exception that nobody looks
at. `await ready.wait()` then waits for ever in every request, without a timeout.
"""

import asyncio
from contextlib import asynccontextmanager

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "lock"
TRIGGER = ("/reload?tea=3+EUR",)
CLIENT = "is answered"
SYMPTOM = "/price/tea"
CONTROL = "/health"


async def load(tea):
    app.state.prices = {"tea": int(tea)}
    app.state.ready.set()


@asynccontextmanager
async def lifespan(app):
    app.state.ready = asyncio.Event()
    await load("3")
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/reload")
async def reload(tea: str):
    app.state.ready.clear()
    app.state.loading = asyncio.create_task(load(tea))
    return {"status": "loading"}


@app.get("/price/{item}")
async def price(item: str):
    await app.state.ready.wait()  # <-- lock
    return {"item": item, "price": app.state.prices[item]}
