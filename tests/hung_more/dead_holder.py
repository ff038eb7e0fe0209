"""A lock whose holder has ended without releasing it.

The refresher takes the lock by hand and fails before `release()`. Its thread is gone, the lock stays locked, and the
next handler that enters it waits for nobody.
"""

import threading

from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "lock"
STACKS = "loop-blocked"
NEEDS_KERNEL = True
TRIGGER = ("/rate/EUR",)
SYMPTOM = "/health"

app = FastAPI()
rates_lock = threading.Lock()
rates = {"EUR": 1.0}


def refresh():
    rates_lock.acquire()
    rates["USD"] = float("n/a")
    rates_lock.release()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/rate/{currency}")
async def rate(currency: str):
    refresher = threading.Thread(target=refresh, daemon=True)
    refresher.start()
    refresher.join()
    with rates_lock:  # <-- lock
        return {"rate": rates[currency]}
