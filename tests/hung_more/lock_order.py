"""Two threads take two locks in opposite orders.

`/restock` takes the shelves' lock and then the ledger's, `/audit` the other way round. Once both have their first lock,
neither ever gets its second. The event loop is idle and threads are left: only what needs one of these locks hangs, and
`/total` is a victim, not a part of the ring.
"""

import threading

from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "lock"
STACKS = "healthy"
TRIGGER = ("/restock", "/audit")
SYMPTOM = "/total"
CONTROL = "/health"

app = FastAPI()
shelves_lock = threading.Lock()
ledger_lock = threading.Lock()
both_inside = threading.Barrier(2)  # makes the unlucky moment certain


@app.get("/health")
def health():
    return {"status": "ok"}


@app.get("/total")
def total():
    with ledger_lock:
        return {"total": 7}


@app.get("/restock")
def restock():
    with shelves_lock:
        both_inside.wait()
        with ledger_lock:  # <-- lock
            return {"restocked": True}


@app.get("/audit")
def audit():
    with ledger_lock:
        both_inside.wait()
        with shelves_lock:  # <-- lock
            return {"audited": True}
