"""A forked child inherits a lock that nobody will ever release.

A thread of the server holds the lock at the moment of the fork. The child has a copy of the lock, locked, and no
copy of the thread: it waits for ever. The handler asks now and then whether the child is done, so the rest of the
server is fine, and that is all that the server's own stacks tell.
"""

import asyncio
import multiprocessing
import socket
import threading

import requests
from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "fork"
NEEDS_KERNEL = True
PROCESS = "child"
TRIGGER = ("/templates/reload", "/report")
SYMPTOM = "/report"
CONTROL = "/health"

templates_lock = threading.Lock()
loading = threading.Event()
library = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
fork = multiprocessing.get_context("fork")


def load_templates():
    with templates_lock:
        loading.set()
        requests.get(f"http://127.0.0.1:{library.getsockname()[1]}/templates")


app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/templates/reload")
async def reload():
    threading.Thread(target=load_templates, name="templates", daemon=True).start()
    loading.wait()
    return {"reloading": True}


def render():
    with templates_lock:  # <-- fork
        print("rendered")


@app.get("/report")
async def report():
    child = fork.Process(target=render, daemon=True)
    child.start()
    while child.is_alive():
        await asyncio.sleep(0.05)
    return {"done": True}
