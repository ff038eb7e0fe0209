"""The live page: Server-Sent Events, one for each feed, in the order in which the feeds answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from app.config import Settings, get_settings
from app.services import archive
from app.services.feeds import fetch_feed

router = APIRouter()


async def headlines(settings: Settings, pool: ThreadPoolExecutor, stops: set[threading.Event]) -> AsyncIterator[str]:
    """Fetch all feeds side by side and hand each one on as soon as it is complete.

    When the client leaves, the fetches are told to stop and nobody waits for them. When the server is told to
    stop, it sets the events in `stops`: what is still open ends early, and so does the stream.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()
    stops.add(stop)
    fetches = [loop.run_in_executor(pool, fetch_feed, name, settings, stop) for name in settings.feeds]
    try:
        for fetch in asyncio.as_completed(fetches):
            result = await fetch
            archive.remember(result.articles)
            yield f"event: feed\ndata: {result.model_dump_json()}\n\n"
        yield "event: end\ndata: {}\n\n"
    finally:
        stop.set()
        stops.discard(stop)
        for fetch in fetches:
            fetch.cancel()  # what is still queued never starts


@router.get("/stream")
async def stream(request: Request) -> StreamingResponse:
    return StreamingResponse(
        headlines(get_settings(), request.app.state.feed_pool, request.app.state.stops),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )
