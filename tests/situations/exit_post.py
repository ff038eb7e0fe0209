"""A server has ended, and a hook that it registered posts its last figures to a collector that never answers.

The collector listens in the process itself: that it still does is no sign that anybody is served.
"""

import atexit
import contextlib
import socket

import requests
import uvicorn
from fastapi import FastAPI

SERVER = "script"
STATE = "exit-hang"
CAUSE = "http-client"
TRIGGER = ("/health",)
CLIENT = "is answered"
SIGNAL = "SIGINT"

app = FastAPI()
collector = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


def post_figures():
    requests.post(f"http://127.0.0.1:{collector.getsockname()[1]}/", json={"up": 0})  # <-- http-client


if __name__ == "__main__":
    atexit.register(post_figures)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"Serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
