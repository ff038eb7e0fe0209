"""urllib3 by itself, in a helper that a coroutine calls.

A `PoolManager` keeps connections, not time: without `timeout=` the request waits for its peer on the event loop's
thread, as long as the peer likes.
"""

import json
import socket

import urllib3
from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "http-client"
TRIGGER = ("/basket/7",)
SYMPTOM = "/health"

app = FastAPI()
taxes = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
http = urllib3.PoolManager()


@app.get("/health")
async def health():
    return {"status": "ok"}


def tax_rate(country):
    answer = http.request("GET", f"http://127.0.0.1:{taxes.getsockname()[1]}/{country}")  # <-- http-client
    return json.loads(answer.data)["rate"]


@app.get("/basket/{number}")
async def basket(number: int):
    return {"number": number, "total": 3 * (1 + tax_rate("SE"))}
