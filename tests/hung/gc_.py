"""A sync generator that nobody closes: a time bomb.

When the client leaves, Starlette drops a *sync* generator without closing it. All is well until the garbage
collector finds it, at any allocation on any line: then its `with` block is left on the event loop's thread,
and joins a pool whose workers wait for an archive that never answers.
"""

import gc
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import requests
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

STATE = "loop-blocked"
CAUSE = "gc"
TRIGGER = ("/export",)
CLIENT = "leaves"
SYMPTOM = "/health"

gc.set_threshold(50, 2, 2)  # so that the collector comes soon: by default it takes some thousand requests
app = FastAPI()
archive = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
tick = threading.Event()


@app.get("/health")
async def health():
    return {"status": "ok"}


def fetch(page):
    return requests.get(f"http://127.0.0.1:{archive.getsockname()[1]}/{page}").text


def export():
    with ThreadPoolExecutor(max_workers=2) as pool:  # <-- gc
        pages = [pool.submit(fetch, page) for page in range(2)]
        while not all(page.done() for page in pages):
            yield "still working\n"
            tick.wait(0.05)
        yield from (page.result() for page in pages)  # <-- gc


@app.get("/export")
async def start_export():
    return StreamingResponse(export())
