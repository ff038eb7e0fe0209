"""A blocking HTTP call in a coroutine, without a timeout.

`requests` waits on the event loop's thread. The service behind it accepts the connection and never answers,
so the loop waits for ever: `timeout=` would bound it, an async client would free the loop.
"""

import socket

import requests
from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "http-client"
TRIGGER = ("/profile/ada",)
SYMPTOM = "/health"

app = FastAPI()
session = requests.Session()
accounts = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/profile/{user}")
async def profile(user: str):
    port = accounts.getsockname()[1]
    answer = session.get(f"http://127.0.0.1:{port}/users/{user}")  # <-- http-client
    return answer.json()
