"""A lock shared between the event loop and a thread that holds it too long.

The refresher keeps the lock while it talks to a catalogue that never answers. The coroutine then blocks the
loop's thread in `with prices_lock`. Neither frame is wrong by itself: look for who holds the lock.
"""

import socket
import threading
from contextlib import asynccontextmanager

import requests
from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "lock"
TRIGGER = ("/price/tea",)
SYMPTOM = "/health"

prices = {"tea": 3}
prices_lock = threading.Lock()
refreshing = threading.Event()
catalogue = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


def refresh():
    with prices_lock:
        refreshing.set()
        prices.update(requests.get(f"http://127.0.0.1:{catalogue.getsockname()[1]}/prices").json())


@asynccontextmanager
async def lifespan(app):
    threading.Thread(target=refresh, name="price-refresher", daemon=True).start()
    refreshing.wait()
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/price/{item}")
async def price(item: str):
    with prices_lock:  # <-- lock
        return {"item": item, "price": prices.get(item)}
