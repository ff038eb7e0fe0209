"""The newsroom API: `uvicorn app.main:app`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.api.routes import articles, stream
from app.config import get_settings


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One pool for the life of the app: its size bounds the threads, however many clients come and go."""
    pool = ThreadPoolExecutor(max_workers=get_settings().feed_workers, thread_name_prefix="feed")
    app.state.feed_pool = pool
    try:
        yield
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


app = FastAPI(title="Newsroom", lifespan=lifespan)
app.include_router(stream.router)
app.include_router(articles.router)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}
