"""The server on which tooling/claims.py tries what is said about executors: one route or app for each claim."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

LONG = 60  # seconds, in place of a feed that does not answer
reached: list[str] = []
shared = ThreadPoolExecutor(16)  # claims.py knows the number
gc.disable()  # so that it comes when /collect asks for it, and not at any line


@asynccontextmanager
async def lifespan(app: FastAPI):
    """Handle SIGTERM as HANDLER says: not at all, in place of uvicorn, or before uvicorn."""
    before = signal.getsignal(signal.SIGTERM)

    def handler(number: int, frame: object) -> None:
        reached.append("handler")
        if os.environ["HANDLER"] == "chained":
            before(number, frame)

    if os.environ.get("HANDLER"):
        signal.signal(signal.SIGTERM, handler)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/reached")
async def what_was_reached():
    return reached


async def own_pool():
    yield "data: begin\n\n"
    pool = ThreadPoolExecutor(1)
    try:
        yield await asyncio.get_running_loop().run_in_executor(pool, time.sleep, LONG)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


async def shared_pool():
    yield "data: begin\n\n"
    call = asyncio.get_running_loop().run_in_executor(shared, time.sleep, LONG)
    try:
        yield await call
    finally:
        call.cancel()


async def cleans_up(shield: bool):
    yield "data: begin\n\n"
    pool = ThreadPoolExecutor(1)
    try:
        await asyncio.sleep(LONG)
    finally:
        reached.append("finally")
        with anyio.CancelScope(shield=shield):
            await asyncio.to_thread(pool.shutdown)
            reached.append("after the await")


def sync_generator():
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(time.sleep, 4)
        yield "data: begin\n\n"
        while not call.done():
            time.sleep(0.05)
            yield "data: more\n\n"


STREAMS = {
    "own-pool": own_pool,
    "shared-pool": shared_pool,
    "plain": lambda: cleans_up(False),
    "shielded": lambda: cleans_up(True),
    "sync": sync_generator,
}


@app.get("/stream/{name}")
async def stream(name: str):
    return StreamingResponse(STREAMS[name](), media_type="text/event-stream")


@app.get("/collect")
async def collect():
    return gc.collect()
