"""A `def` handler that does not return keeps a server alive that was told to stop.

On SIGTERM uvicorn closes its port, and waits for the requests that it has begun. This one waits for a slow
report that never comes, in one of AnyIO's threads. The event loop is idle.
"""

import socket

import requests
from fastapi import FastAPI

STATE = "exit-hang"
CAUSE = "graceful-shutdown"
NEEDS_KERNEL = True
TRIGGER = ("/reports/today",)
SIGNAL = "SIGTERM"

app = FastAPI()
reports = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/reports/{day}")
def report(day: str):
    url = f"http://127.0.0.1:{reports.getsockname()[1]}/{day}"
    return {"report": requests.get(url).text}  # <-- graceful-shutdown
