"""Three threads stand in a ring: each has one lock, and waits for the next one's.

No pair of them would hang. They take their locks with `acquire()`, in a `try` with a `finally` that is never reached.
"""

import threading

from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "lock"
STACKS = "healthy"
TRIGGER = ("/close-of-day",)
CLIENT = "is answered"
SYMPTOM = "/stock"
CONTROL = "/health"

app = FastAPI()
stock_lock = threading.Lock()
orders_lock = threading.Lock()
invoices_lock = threading.Lock()
all_inside = threading.Barrier(3)  # makes the unlucky moment certain


def book_orders():
    stock_lock.acquire()
    try:
        all_inside.wait()
        orders_lock.acquire()  # <-- lock
        orders_lock.release()
    finally:
        stock_lock.release()


def write_invoices():
    orders_lock.acquire()
    try:
        all_inside.wait()
        invoices_lock.acquire()  # <-- lock
        invoices_lock.release()
    finally:
        orders_lock.release()


def count_stock():
    invoices_lock.acquire()
    try:
        all_inside.wait()
        stock_lock.acquire()  # <-- lock
        stock_lock.release()
    finally:
        invoices_lock.release()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/stock")
def stock():
    with stock_lock:
        return {"stock": 7}


@app.get("/close-of-day")
async def close_of_day():
    for job in (book_orders, write_invoices, count_stock):
        threading.Thread(target=job, name=job.__name__, daemon=True).start()
    return {"started": 3}
