"""The event loop and a worker wait for each other.

The handler blocks on the worker's result. The worker asks the loop to run a coroutine, and blocks on that one's result.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "run-coroutine-threadsafe"
TRIGGER = ("/report",)
STACKS = "loop-blocked"
SYMPTOM = "/health"

app = FastAPI()
pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="report")


@app.get("/health")
async def health():
    return {"status": "ok"}


async def load_rows():
    return [3, 4]


def build(loop):
    rows = asyncio.run_coroutine_threadsafe(load_rows(), loop)
    return sum(rows.result())  # <-- run-coroutine-threadsafe


@app.get("/report")
async def report():
    return {"sum": pool.submit(build, asyncio.get_running_loop()).result()}  # <-- run-coroutine-threadsafe
