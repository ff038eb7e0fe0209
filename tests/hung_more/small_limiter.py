"""A limiter that was made small: two slow calls, and no `def` handler answers any more.

Two threads at work look harmless beside the 40 that a server usually has. Only the list of tasks shows that the
limiter has no more than two tokens, and that requests queue for them.
"""

import socket
from contextlib import asynccontextmanager

import anyio.to_thread
import requests
from fastapi import FastAPI

STATE = "threadpool-exhausted"
CAUSE = "threadpool-limit"
TRIGGER = ("/invoices/7.pdf",)
COUNT = 2
SYMPTOM = "/version"
CONTROL = "/health"

renderer = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@asynccontextmanager
async def lifespan(app):
    anyio.to_thread.current_default_thread_limiter().total_tokens = 2
    yield


app = FastAPI(lifespan=lifespan)


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
