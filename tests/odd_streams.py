"""Answers and streams of every kind that `verify` must tell apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse

app = FastAPI()
opened = 0


async def ticks(count: int, pause: float) -> AsyncIterator[str]:
    for number in range(count):
        yield f"data: {number}\n\n"
        await asyncio.sleep(pause)


@app.get("/health")
async def health() -> str:
    return "ok"


@app.get("/broken")
async def broken() -> Response:
    return Response(status_code=500)


@app.get("/slow")
async def slow() -> str:
    await asyncio.sleep(30)
    return "at last"


@app.get("/endless")
async def endless() -> StreamingResponse:
    global opened
    opened += 1
    return StreamingResponse(ticks(10_000, 0.05), media_type="text/event-stream")


@app.get("/opened")
async def how_many() -> int:
    return opened


@app.get("/brief")
async def brief() -> StreamingResponse:
    """It lasts while one stream is held, and is over when several are."""
    return StreamingResponse(ticks(3, 0.3), media_type="text/event-stream")


@app.get("/silent")
async def silent() -> StreamingResponse:
    async def nothing() -> AsyncIterator[str]:
        await asyncio.sleep(30)
        yield ""

    return StreamingResponse(nothing(), media_type="text/event-stream")


@app.get("/empty")
async def empty() -> Response:
    return Response(media_type="text/event-stream")


@app.get("/once")
async def once() -> StreamingResponse:
    """The first reader gets a stream; later ones wait in vain."""
    global opened
    opened += 1
    return StreamingResponse(ticks(10_000, 0.05)) if opened == 1 else await silent()
