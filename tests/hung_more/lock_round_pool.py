"""The loop's thread joins a pool inside of a lock, and the pool's worker waits for that lock: neither goes on."""

import threading
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "executor-shutdown"
TRIGGER = ("/hang",)
SYMPTOM = "/health"

app = FastAPI()
stock_lock = threading.Lock()


def work():
    with stock_lock:
        return 1


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/hang")
async def hang():
    with stock_lock, ThreadPoolExecutor(thread_name_prefix="feed") as pool:  # <-- executor-shutdown
        pool.submit(work)
