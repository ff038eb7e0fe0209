"""A browser of a few lines: asks once, or reads a stream and walks away. Never through a proxy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Callable
from urllib.parse import urlsplit


def get(url: str, timeout: float = 1.0) -> bytes | None:
    """The body of a 200, or None where no such answer came within `timeout` seconds of silence."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    try:
        connection.request("GET", urlsplit(url).path)
        response = connection.getresponse()
        return response.read() if response.status == 200 else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


@contextmanager
def reading(url: str, timeout: float = 10.0) -> Iterator[HTTPResponse]:
    """An open stream. The end of the block is a client that goes away."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    connection.request("GET", urlsplit(url).path)
    response = connection.getresponse()
    try:
        yield response
    finally:
        response.close()
        connection.close()


def eventually(true: Callable[[], object], seconds: float = 5.0) -> bool:
    """Ask until it is true; False if it still is not after `seconds`."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def slowest(url: str, seconds: float) -> float:
    """Ask again and again for `seconds`; the seconds of the slowest answer, infinite if one missed."""
    end, worst = time.monotonic() + seconds, 0.0
    while time.monotonic() < end:
        began = time.monotonic()
        answered = get(url) is not None
        worst = max(worst, time.monotonic() - began if answered else float("inf"))
        time.sleep(0.02)
    return worst
