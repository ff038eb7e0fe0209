"""What the API hands out."""

from __future__ import annotations

from typing import Optional

from pydantic import BaseModel


class Article(BaseModel):
    feed: str
    title: str


class FeedResult(BaseModel):
    """One feed's answer; `error` says why there are no articles."""

    feed: str
    articles: list[Article] = []
    error: Optional[str] = None  # pydantic reads it, and before Python 3.10 it cannot read `|`
