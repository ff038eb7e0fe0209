"""A pool of the application's own, with every worker stuck.

Nothing in a stack says how many workers a pool may have; the line that makes it does. Four scans wait for a scanner
that never answers, so the fifth waits in the pool's queue. Handlers that need no worker still answer.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

import requests
from fastapi import FastAPI

STATE = "threadpool-exhausted"
CAUSE = "threadpool-limit"
NEEDS_KERNEL = True
TRIGGER = ("/scan/7.pdf",)
COUNT = 4
SYMPTOM = "/signatures"
CONTROL = "/health"

app = FastAPI()
scanner = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="scan")


@app.get("/health")
async def health():
    return {"status": "ok"}


def scan(name):
    url = f"http://127.0.0.1:{scanner.getsockname()[1]}/{name}"
    return requests.get(url).text  # <-- threadpool-limit


@app.get("/scan/{name}")
async def start_scan(name: str):
    return {"infected": await asyncio.get_running_loop().run_in_executor(pool, scan, name)}


@app.get("/signatures")
async def signatures():
    return {"known": await asyncio.get_running_loop().run_in_executor(pool, len, ("eicar", "melissa"))}
