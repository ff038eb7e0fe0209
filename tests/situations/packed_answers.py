"""A healthy server under load whose time goes into the compression of its answers: no frame of the application."""

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response

STATE = "healthy"
CAUSE = "none"
LOAD = ("/report", "/report")
CONTROL = "/health"

report = Response("".join(f"{number * 7919 % 10007};" for number in range(700_000)))


async def pages(scope, receive, send):
    await (report if scope["path"] == "/report" else Response("ok"))(scope, receive, send)


app = GZipMiddleware(pages)
