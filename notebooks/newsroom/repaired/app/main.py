"""The newsroom API: `uvicorn app.main:app`."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

from fastapi import FastAPI

from app.api.routes import articles, stream
from app.config import get_settings

log = logging.getLogger("uvicorn.error")  # the logger that a plain uvicorn prints


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One pool for the life of the app: its size bounds the threads, however many clients come and go.

    `stops` are the events of the open streams, which their fetches look at.
    """
    pool = ThreadPoolExecutor(max_workers=get_settings().feed_workers, thread_name_prefix="feed")
    app.state.feed_pool, app.state.stops = pool, set()
    try:
        with told_to_stop(app.state.stops):
            yield
    finally:
        log.info("feeds: told to stop, queued fetches are dropped")
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def told_to_stop(stops: set[threading.Event]) -> Iterator[None]:
    """Set these events on SIGINT and SIGTERM: the lifespan would come too late, after the last open stream."""
    loop, before = asyncio.get_running_loop(), {}

    def handler(number: int, frame: object) -> None:
        loop.call_soon_threadsafe(tell)  # a signal comes in the middle of anything
        before[number](number, frame)  # uvicorn's own

    def tell() -> None:
        log.info("streams: told to stop, %d open", len(stops))
        for stop in stops:
            stop.set()

    main = threading.current_thread() is threading.main_thread()
    for number in (signal.SIGINT, signal.SIGTERM) if main else ():
        if callable(signal.getsignal(number)):
            before[number] = signal.getsignal(number)
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number in before:
            signal.signal(number, before[number])


app = FastAPI(title="Newsroom", lifespan=lifespan)
app.include_router(stream.router)
app.include_router(articles.router)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}
