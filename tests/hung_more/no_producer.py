"""A queue whose producer is gone.

Each request takes a ticket from a queue that one task fills. That task has failed, with an exception that nobody looked
at: the tickets run out, and then `await tickets.get()` waits for ever in every request.
"""

import asyncio
from contextlib import asynccontextmanager

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "queue"
NEEDS_KERNEL = True
TRIGGER = ("/order/tea",)
CLIENT = "is answered"
SYMPTOM = "/order/milk"
CONTROL = "/health"


async def print_tickets(tickets):
    for block in ("17", "18", "19 to 30"):
        await tickets.put(int(block))


@asynccontextmanager
async def lifespan(app):
    app.state.tickets = asyncio.Queue()
    app.state.printer = asyncio.create_task(print_tickets(app.state.tickets))
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/order/{item}")
async def order(item: str):
    return {"item": item, "ticket": await app.state.tickets.get()}  # <-- queue
