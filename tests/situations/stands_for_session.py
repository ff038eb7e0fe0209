"""A session's script runs in a thread of its own beside the loop, and waits for a peer: the request waits for it."""

import asyncio
import socket
import threading

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "socket"
TRIGGER = ("/run",)
CONTROL = "/health"
NEEDS_KERNEL = True

app = FastAPI()
bank = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


def load_table():
    with socket.create_connection(bank.getsockname()) as line:
        return line.recv(64)  # <-- socket


def session(done, loop):
    load_table()
    loop.call_soon_threadsafe(done.set)


@app.get("/run")
async def run():
    done = asyncio.Event()
    work = threading.Thread(target=session, args=(done, asyncio.get_running_loop()), name="session-1", daemon=True)
    work.start()
    await done.wait()
    return {"ran": True}
