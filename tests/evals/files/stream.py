"""The live page: Server-Sent Events, one for each feed, in the order in which the feeds answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from app.config import Settings, get_settings
from app.services import archive
from app.services.feeds import fetch_feed

router = APIRouter()


async def headlines(settings: Settings) -> AsyncIterator[str]:
    """Fetch all feeds side by side and hand each one on as soon as it is complete."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(max_workers=settings.feed_workers, thread_name_prefix="feed") as pool:
        fetches = [loop.run_in_executor(pool, fetch_feed, name, settings) for name in settings.feeds]
        for fetch in asyncio.as_completed(fetches):
            result = await fetch
            archive.remember(result.articles)
            yield f"event: feed\ndata: {result.model_dump_json()}\n\n"
    yield "event: end\ndata: {}\n\n"


@router.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(
        headlines(get_settings()),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )
