"""The newsroom API: `uvicorn app.main:app`."""

from __future__ import annotations

from fastapi import FastAPI

from app.api.routes import articles, stream

app = FastAPI(title="Newsroom")
app.include_router(stream.router)
app.include_router(articles.router)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}
