"""A healthy server under load whose time goes into the compression of its answers: no frame of the application."""

import subprocess
import sys

from fastapi import FastAPI, Request
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/load",)
CLIENT = "is answered"
CONTROL = "/health"

app = FastAPI()
app.add_middleware(GZipMiddleware)
pages = PlainTextResponse("".join(f"{number * 7919 % 10007};" for number in range(200_000)))


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/report")
async def report():
    return pages


ASKS = """
import sys, urllib.request
while True:
    urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={"Accept-Encoding": "gzip"})).read()
"""


@app.get("/load")
async def load(request: Request):
    for _ in range(2):
        subprocess.Popen([sys.executable, "-I", "-c", ASKS, "http://{}:{}/report".format(*request.scope["server"])])
    return {"clients": 2}
