"""A coroutine that asks a future for its result.

Handing the slow call to a pool was right, and `.result()` takes it all back: it blocks the thread that calls
it, here the event loop's, until the worker is done. `await asyncio.wrap_future(job)` would not.
"""

import socket
from concurrent.futures import ThreadPoolExecutor

import requests
from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "future-result"
TRIGGER = ("/quote/EURUSD",)
SYMPTOM = "/health"

app = FastAPI()
pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="quotes")
exchange = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


def latest(pair):
    return requests.get(f"http://127.0.0.1:{exchange.getsockname()[1]}/{pair}").json()


@app.get("/quote/{pair}")
async def quote(pair: str):
    job = pool.submit(latest, pair)
    return {"pair": pair, "price": job.result()}  # <-- future-result
