"""`def` handlers wait for a lock that a thread took before it ended: nobody is left to release it."""

import threading

from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "lock"
NEEDS_KERNEL = True
TRIGGER = ("/orders",)
COUNT = 2
SYMPTOM = "/orders"
CONTROL = "/health"

app = FastAPI()
orders_lock = threading.Lock()
asked = []


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/orders")
def orders():
    asked.append(1)
    if asked[1:]:
        with orders_lock:  # <-- lock
            return {"orders": 3}
    importer = threading.Thread(target=orders_lock.acquire)
    importer.start()
    importer.join()
    return {"orders": 0}
