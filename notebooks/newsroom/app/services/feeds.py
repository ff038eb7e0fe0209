"""Reads the agencies' feeds: newline-delimited JSON over HTTP, one article a line."""

from __future__ import annotations

import json
import logging
from typing import Optional

import requests
from pydantic import BaseModel

from app.config import Settings
from app.services.archive import Article

log = logging.getLogger(__name__)


class FeedResult(BaseModel):
    """One feed's answer; `error` says why there are no articles."""

    feed: str
    articles: list[Article] = []
    error: Optional[str] = None  # pydantic reads it, and before Python 3.10 it cannot read `|`


def fetch_feed(name: str, settings: Settings) -> FeedResult:
    """Download one feed. A feed that fails is reported in the result, so that the others go on."""
    try:
        response = requests.get(
            f"{settings.feeds_url}/feeds/{name}",
            timeout=(settings.connect_timeout, settings.read_timeout),
        )
        response.raise_for_status()
    except requests.RequestException as error:
        log.warning("feed %s failed: %s", name, error)
        return FeedResult(feed=name, error="the feed is not available")
    titles = [json.loads(line)["title"] for line in response.text.splitlines()]
    return FeedResult(feed=name, articles=[Article(feed=name, title=title) for title in titles])
