"""A healthy server with three slow `def` requests in progress.

Three of the pool's 40 workers wait for a render service. That is what the pool is for: both `def` and
`async def` requests still answer.
"""

import socket

import requests
from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/invoices/7.pdf",)
COUNT = 3
CONTROL = "/version"

app = FastAPI()
renderer = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/version")
def version():
    return {"version": "2.4.1"}


@app.get("/invoices/{number}.pdf")
def invoice(number: int):
    url = f"http://127.0.0.1:{renderer.getsockname()[1]}/render/{number}"
    return {"pdf": requests.get(url).content}
