"""A pool with a queue of its own, so nobody can read how many calls wait. Two calls stand still, and three wait."""

import asyncio
import queue
import socket
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI

STATE = "threadpool-exhausted"
CAUSE = "threadpool-limit"
NEEDS_KERNEL = True
TRIGGER = ("/print",)
COUNT = 5
SYMPTOM = "/print"
CONTROL = "/health"

app, asked = FastAPI(), []
printer = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="print")
pool._work_queue = queue.Queue()


@app.get("/health")
async def health():
    return {"status": "ok"}


def send():
    socket.create_connection(printer.getsockname()).recv(1)  # <-- threadpool-limit


@app.get("/print")
async def start():
    asked.append(1)
    if asked[1:]:
        await asyncio.get_running_loop().run_in_executor(pool, send)
    return {"printed": True}
