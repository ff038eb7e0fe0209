"""The join hides in an async context manager.

`async with Translator()` looks non-blocking, and its `__aexit__` awaits nothing: it stops the pool and waits,
on the event loop's thread, for a translation that never comes.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

import requests
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

STATE = "loop-blocked"
CAUSE = "executor-shutdown"
TRIGGER = ("/articles/9/translation",)
CLIENT = "leaves"
SYMPTOM = "/health"

app = FastAPI()
engine = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


class Translator:
    async def __aenter__(self):
        self.workers = ThreadPoolExecutor(2)
        return self

    async def __aexit__(self, *error):
        self.stop()

    def stop(self):
        self.workers.shutdown(wait=True)  # <-- executor-shutdown

    def translate(self, part):
        return requests.get(f"http://127.0.0.1:{engine.getsockname()[1]}/translate/{part}").text


@app.get("/health")
async def health():
    return {"status": "ok"}


async def parts(article):
    async with Translator() as translator:
        yield f"event: open\nid: {article}\n\n"
        loop = asyncio.get_running_loop()
        for part in ("title", "body"):
            text = await loop.run_in_executor(translator.workers, translator.translate, part)
            yield f"event: {part}\ndata: {text}\n\n"


@app.get("/articles/{article}/translation")
async def translation(article: int):
    return StreamingResponse(parts(article), media_type="text/event-stream")
