"""The newsroom API: `uvicorn app.main:app`."""

from __future__ import annotations

from fastapi import FastAPI, Query

from app.api.routes import stream
from app.services import archive

app = FastAPI(title="Newsroom")
app.include_router(stream.router)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/articles")
def articles(limit: int = Query(default=20, ge=1, le=200)) -> list[archive.Article]:
    """The front page: articles that came in last."""
    return archive.latest(limit)
