"""Every thread for `def` handlers tries again and again to reach a peer that is away, with a sleep in between.

Each wakes now and then, and none of them ever comes back.
"""

import socket
import time

from fastapi import FastAPI

STATE = "threadpool-exhausted"
CAUSE = "threadpool-limit"
TRIGGER = ("/stock",)
COUNT = 45
SYMPTOM = "/prices"
CONTROL = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/prices")
def prices():
    return {"tea": 3}


@app.get("/stock")
def stock():
    while True:
        try:
            return socket.create_connection(("127.0.0.1", 1))
        except OSError:
            time.sleep(0.3)  # <-- threadpool-limit
