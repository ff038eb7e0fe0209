"""The join hides in a service's `aclose()`.

No `with` and no executor stands in the route: the stream closes its reader politely, and the reader's own
`aclose()`, async by name only, joins the pool on the event loop's thread.
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


class FeedReader:
    def __init__(self):
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="feeds")

    def _fetch(self, topic):
        return requests.get(f"http://127.0.0.1:{feeds.getsockname()[1]}/{topic}").text

    async def read(self, topic):
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._fetch, topic)

    async def aclose(self):
        self._pool.shutdown()  # <-- executor-shutdown


@app.get("/health")
async def health():
    return {"status": "ok"}


async def headlines():
    reader = FeedReader()
    try:
        yield "event: open\n\n"
        yield f"data: {await reader.read('world')}\n\n"
    finally:
        await reader.aclose()


@app.get("/news")
async def news():
    return StreamingResponse(headlines(), media_type="text/event-stream")
