"""A healthy server in whose locks and events requests wait their turn.

One request at a time talks to the slow till, the others queue for its lock; some poll for a message, and give up
after half a minute. All of them wait, and each wait has somebody, or a clock, that ends it.
"""

import asyncio
from contextlib import asynccontextmanager

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/pay", "/poll", "/pay")
COUNT = 4
CONTROL = "/health"


@asynccontextmanager
async def lifespan(app):
    app.state.till, app.state.message = asyncio.Lock(), asyncio.Event()
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/pay")
async def pay():
    async with app.state.till:
        await asyncio.sleep(4)
        return {"paid": True}


@app.get("/poll")
async def poll():
    try:
        await asyncio.wait_for(app.state.message.wait(), 30)
    except asyncio.TimeoutError:
        return {"message": None}
    return {"message": "mail"}
