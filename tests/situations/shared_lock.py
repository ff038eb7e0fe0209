"""The loop waits for a lock that another process is inside of. That one sleeps; nobody knows whether it lets go."""

import multiprocessing
import time

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "lock"
TRIGGER = ("/ledger",)
SYMPTOM = "/health"

app = FastAPI()
fork = multiprocessing.get_context("fork")
ledger_lock, taken = fork.Lock(), fork.Event()


def work():
    with ledger_lock:
        taken.set()
        time.sleep(86_400)


fork.Process(target=work, daemon=True).start()
taken.wait()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/ledger")
async def ledger():
    with ledger_lock:  # <-- lock
        return {"ledger": 3}
