"""Forty slow calls, and no `def` handler answers any more.

Starlette runs `def` handlers in a pool of 40 threads. Each of these waits for a render service that never
answers, so the next `def` request is queued for ever. The event loop is fine: `async def` still answers.
"""

import socket

import requests
from fastapi import FastAPI

STATE = "threadpool-exhausted"
CAUSE = "threadpool-limit"
TRIGGER = ("/invoices/7.pdf",)
COUNT = 40
SYMPTOM = "/version"
CONTROL = "/health"

app = FastAPI()
renderer = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/version")
def version():
    return {"version": "2.4.1"}


@app.get("/invoices/{number}.pdf")
def invoice(number: int):
    url = f"http://127.0.0.1:{renderer.getsockname()[1]}/render/{number}"
    return {"pdf": requests.get(url).content}  # <-- threadpool-limit
