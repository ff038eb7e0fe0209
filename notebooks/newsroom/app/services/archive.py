"""The articles seen last, kept in memory for the front page."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pydantic import BaseModel


class Article(BaseModel):
    feed: str
    title: str


_latest: deque[Article] = deque(maxlen=200)


def remember(articles: Iterable[Article]) -> None:
    _latest.extendleft(articles)


def latest(limit: int) -> list[Article]:
    """The newest `limit` articles, newest first."""
    return list(_latest)[:limit]
