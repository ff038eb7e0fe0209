"""Reads the agencies' feeds: newline-delimited JSON over HTTP, one article a line."""

from __future__ import annotations

import json
import logging

import requests

from app.config import Settings
from app.models import Article, FeedResult

log = logging.getLogger(__name__)


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
