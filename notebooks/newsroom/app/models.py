"""What the API hands out."""

from __future__ import annotations

from pydantic import BaseModel


class Article(BaseModel):
    feed: str
    title: str


class FeedResult(BaseModel):
    """One feed's answer; `error` says why there are no articles."""

    feed: str
    articles: list[Article] = []
    error: str | None = None
