"""`concurrent.futures.as_completed` in a coroutine.

A `for` loop over it blocks the event loop's thread between two results. The generator's own frame, and below it that
of an event, stand above the handler's line.
"""

import socket
from concurrent.futures import ThreadPoolExecutor, as_completed

import requests
from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "future-result"
TRIGGER = ("/offers",)
SYMPTOM = "/health"

app = FastAPI()
pool = ThreadPoolExecutor(max_workers=4)
shops = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


def offer(shop):
    return requests.get(f"http://127.0.0.1:{shops.getsockname()[1]}/{shop}").json()


@app.get("/offers")
async def offers():
    asked = [pool.submit(offer, shop) for shop in ("north", "south")]
    return [one.result() for one in as_completed(asked)]  # <-- future-result
