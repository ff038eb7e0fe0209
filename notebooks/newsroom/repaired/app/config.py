"""Settings, from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Settings:
    """Timeouts are in seconds."""

    feeds_url: str = "http://127.0.0.1:9000"
    feeds: tuple[str, ...] = ("city", "sport", "wire", "markets", "weather", "traffic")
    feed_workers: int = 80  # for all streams together: of 20 readers with four slow feeds each
    connect_timeout: float = 3.0
    read_timeout: float = 2.0  # between two lines of a feed, not for all of it


@lru_cache
def get_settings() -> Settings:
    return Settings(
        feeds_url=os.environ.get("NEWSROOM_FEEDS_URL", Settings.feeds_url),
        feed_workers=int(os.environ.get("NEWSROOM_FEED_WORKERS", Settings.feed_workers)),
        connect_timeout=float(os.environ.get("NEWSROOM_CONNECT_TIMEOUT", Settings.connect_timeout)),
        read_timeout=float(os.environ.get("NEWSROOM_READ_TIMEOUT", Settings.read_timeout)),
    )
