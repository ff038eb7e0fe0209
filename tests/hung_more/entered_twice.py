"""The event loop's thread enters a threading.Lock that it is inside of already.

`add` takes the basket's lock and calls `total`, which takes it too. A Lock is not re-entrant: it waits for itself.
"""

import threading

from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "lock"
STACKS = "loop-blocked"
TRIGGER = ("/basket/add",)
SYMPTOM = "/health"

app = FastAPI()


class Basket:
    def __init__(self):
        self.prices = []
        self.lock = threading.Lock()

    def total(self):
        with self.lock:  # <-- lock
            return sum(self.prices)

    def add(self, price):
        with self.lock:
            self.prices.append(price)
            return self.total()


basket = Basket()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/basket/add")
async def add():
    return {"total": basket.add(3)}
