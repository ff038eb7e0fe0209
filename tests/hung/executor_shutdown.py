"""A news stream that stops its whole server when a reader leaves.

The `with` block joins its three workers when it is left, also when it is left because the client went away.
The workers wait for a feed that never answers, and the join runs on the event loop's thread.
CPython 3.9 reports the last line of the block instead of the `with`, so both lines are marked.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

import requests
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

STATE = "loop-blocked"
CAUSE = "executor-shutdown"
TRIGGER = ("/news",)
CLIENT = "leaves"
SYMPTOM = "/health"

app = FastAPI()
feeds = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


def fetch(topic):
    return requests.get(f"http://127.0.0.1:{feeds.getsockname()[1]}/{topic}").text


async def headlines():
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(max_workers=3) as pool:  # <-- executor-shutdown
        jobs = [loop.run_in_executor(pool, fetch, topic) for topic in ("world", "science", "sport")]
        yield "event: open\n\n"
        for job in asyncio.as_completed(jobs):
            yield f"data: {await job}\n\n"  # <-- executor-shutdown


@app.get("/news")
async def news():
    return StreamingResponse(headlines(), media_type="text/event-stream")
