"""Reads the agencies' feeds: newline-delimited JSON over HTTP, one article a line."""

from __future__ import annotations

import json
import logging
import threading

import requests

from app.config import Settings
from app.models import Article, FeedResult

log = logging.getLogger(__name__)


def fetch_feed(name: str, settings: Settings, stop: threading.Event) -> FeedResult:
    """Download one feed, line by line, and leave early when `stop` is set.

    A feed that fails is reported in the result, so that the others go on. A feed that sends nothing for
    `read_timeout` seconds has failed: this bounds how long the thread outlives its reader.
    """
    articles: list[Article] = []
    try:
        with requests.get(
            f"{settings.feeds_url}/feeds/{name}",
            stream=True,
            timeout=(settings.connect_timeout, settings.read_timeout),
        ) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                if stop.is_set():
                    return FeedResult(feed=name, articles=articles, error="nobody reads any more")
                articles.append(Article(feed=name, title=json.loads(line)["title"]))
    except requests.RequestException as error:
        log.warning("feed %s failed: %s", name, error)
        return FeedResult(feed=name, articles=articles, error="the feed is not available")
    return FeedResult(feed=name, articles=articles)
