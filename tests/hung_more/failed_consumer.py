"""A bounded queue whose consumer has ended with an exception that nobody retrieved.

The first order without a price kills the only task that reads the queue. Two more orders fit in; the next waits for
room, and so does every one after it.
"""

import asyncio

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "queue"
TRIGGER = ("/order?price=free", "/order?price=3", "/order?price=3")
CLIENT = "is answered"
SYMPTOM = "/flush"
CONTROL = "/health"

app = FastAPI()


async def consume(orders):
    while True:
        price = await orders.get()
        app.state.total += int(price)
        orders.task_done()


@app.get("/health")
async def health():
    return {"status": "ok"}


def orders():
    if not hasattr(app.state, "orders"):  # Python 3.9 binds it to the loop that is there when it is made
        app.state.total, app.state.orders = 0, asyncio.Queue(2)
        app.state.consumer = asyncio.create_task(consume(app.state.orders))
    return app.state.orders


@app.get("/order")
async def order(price: str):
    await orders().put(price)
    return {"queued": True}


@app.get("/flush")
async def flush():
    await orders().join()  # <-- queue
    return {"total": app.state.total}
