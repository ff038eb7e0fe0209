"""A pool with a queue of its own, so nobody can read how many calls wait. Two calls stand still, and nobody waits."""

import asyncio
import queue
import socket
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/print", "/label")
CONTROL = "/health"

app = FastAPI()
printer = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="print")
pool._work_queue = queue.Queue()


@app.get("/health")
async def health():
    return {"status": "ok"}


def send():
    socket.create_connection(printer.getsockname()).recv(1)


@app.get("/print")
async def start():
    await asyncio.get_running_loop().run_in_executor(pool, send)


def send_label():
    socket.create_connection(printer.getsockname()).recv(2)


@app.get("/label")
async def label():
    await asyncio.get_running_loop().run_in_executor(pool, send_label)
