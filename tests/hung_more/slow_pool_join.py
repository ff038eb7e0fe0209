"""The loop's thread joins a pool whose worker waits for an answer, while another thread waits for the loop.

That is a chain and no ring: once the answer comes, all of them go on.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "executor-shutdown"
TRIGGER = ("/hang",)
SYMPTOM = "/health"

app = FastAPI()
bank = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


async def tick():
    return 1


def bridge(loop):
    return asyncio.run_coroutine_threadsafe(tick(), loop).result()


def fetch():
    with socket.create_connection(bank.getsockname()) as line:
        return line.recv(64)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/hang")
async def hang():
    job = asyncio.ensure_future(asyncio.to_thread(bridge, asyncio.get_running_loop()))
    await asyncio.sleep(0)
    with ThreadPoolExecutor(thread_name_prefix="feed") as pool:  # <-- executor-shutdown
        pool.submit(fetch)
    return await job
