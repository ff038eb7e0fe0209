"""The standard library's HTTP client in a coroutine.

No package is installed for it, and it has no timeout unless one is given: `http.client` reads the status line of
an answer that never comes, on the event loop's thread.
"""

import http.client
import socket

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "http-client"
TRIGGER = ("/weather/oslo",)
SYMPTOM = "/health"

app = FastAPI()
station = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/weather/{city}")
async def weather(city: str):
    line = http.client.HTTPConnection(*station.getsockname())
    line.request("GET", f"/{city}")
    return {"weather": line.getresponse().read().decode()}  # <-- http-client
