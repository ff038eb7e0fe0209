"""Each request's script runs in a thread of its own beside the loop, and the request waits for its end."""

import asyncio
import socket
import threading

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "socket"
NEEDS_KERNEL = True
TRIGGER = ("/run",)
CONTROL = "/health"

app = FastAPI()
quiet = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


def load_table():
    with socket.create_connection(quiet.getsockname()) as peer:
        return peer.recv(100)  # <-- socket


def session(done, loop):
    load_table()
    loop.call_soon_threadsafe(done.set)


@app.get("/run")
async def run():
    done = asyncio.Event()
    threading.Thread(target=session, args=(done, asyncio.get_running_loop()), name="session-1", daemon=True).start()
    await done.wait()
