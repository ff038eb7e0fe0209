"""The loop's default executor is full.

`asyncio.to_thread()` and `run_in_executor(None, ...)` share one pool of a few threads (CPUs + 4, 32 at most).
Each of these scans waits for a virus scanner that never answers, so the next thumbnail is queued for ever, and so
is every name that the loop resolves. Handlers that need no thread still answer.
"""

import asyncio
import os
import socket

import requests
from fastapi import FastAPI

STATE = "threadpool-exhausted"
CAUSE = "default-executor"
NEEDS_KERNEL = True
TRIGGER = ("/scan/all",)
SYMPTOM = "/thumbnail"
CONTROL = "/health"

app = FastAPI()
scanner = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


def scan(number):
    url = f"http://127.0.0.1:{scanner.getsockname()[1]}/scan/{number}"
    return requests.get(url).text  # <-- default-executor


@app.get("/scan/all")
async def scan_all():
    return await asyncio.gather(*(asyncio.to_thread(scan, number) for number in range(os.cpu_count() + 4)))


@app.get("/thumbnail")
async def thumbnail():
    return {"bytes": await asyncio.to_thread(len, b"GIF89a")}


@app.get("/partner")
async def partner():
    found = await asyncio.get_running_loop().getaddrinfo("localhost", 443)  # asyncio asks in the same pool, uvloop not
    return {"addresses": len(found)}
