"""The route: one event a feed, as the feeds answer."""

import asyncio
import socket

import requests
from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from newsdesk.core.pools import borrow

router = APIRouter()
feeds = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


def fetch(topic):
    return requests.get(f"http://127.0.0.1:{feeds.getsockname()[1]}/{topic}").text


async def headlines():
    async with borrow(workers=2) as pool:
        yield "event: open\n\n"
        loop = asyncio.get_running_loop()
        for topic in ("world", "science"):
            yield f"data: {await loop.run_in_executor(pool, fetch, topic)}\n\n"


@router.get("/news")
async def news():
    return StreamingResponse(headlines(), media_type="text/event-stream")
