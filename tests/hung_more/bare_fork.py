"""`os.fork()` in a handler, while a thread holds a lock.

The child is a copy of this process with one thread, and a copy of the lock, locked, that no thread will release. It
never comes to its `os._exit`. The parent's handler asks now and then, so the rest of the server is fine.
"""

import asyncio
import os
import socket
import threading

import requests
from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "fork"
NEEDS_KERNEL = True
PROCESS = "child"
TRIGGER = ("/rates/reload", "/snapshot")
SYMPTOM = "/snapshot"
CONTROL = "/health"

app = FastAPI()
rates_lock = threading.Lock()
loading = threading.Event()
bank = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


def load_rates():
    with rates_lock:
        loading.set()
        requests.get(f"http://127.0.0.1:{bank.getsockname()[1]}/rates")


@app.get("/rates/reload")
async def reload():
    threading.Thread(target=load_rates, daemon=True).start()
    loading.wait()
    return {"reloading": True}


def save():
    with rates_lock:  # <-- fork
        os._exit(0)


@app.get("/snapshot")
async def snapshot():
    child = os.fork()
    if not child:
        save()
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        await asyncio.sleep(0.05)
    return {"saved": True}
