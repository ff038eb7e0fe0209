"""A healthy server that encodes one film in each thread of the default executor.

All of its threads are at work for half a minute, in one line, and none of them wakes meanwhile. That is what they are
for: no call waits for one of them, so nothing is exhausted.
"""

import asyncio
import os
import subprocess
from contextlib import asynccontextmanager

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
CONTROL = "/health"


def encode():
    subprocess.run(["sleep", "30"], check=True)


@asynccontextmanager
async def lifespan(app):
    threads = min(32, (os.cpu_count() or 1) + 4)
    app.state.jobs = [asyncio.ensure_future(asyncio.to_thread(encode)) for _ in range(threads)]
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}
