"""The synchronous half of httpx.

`httpx.Client` looks like its async sister, and its calls need no `await`: that is the defect. `timeout=None` takes
away the five seconds that would have ended the wait.
"""

import socket

import httpx
from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "http-client"
TRIGGER = ("/avatar/ada",)
SYMPTOM = "/health"

app = FastAPI()
client = httpx.Client(timeout=None, trust_env=False)
images = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/avatar/{user}")
async def avatar(user: str):
    answer = client.get(f"http://127.0.0.1:{images.getsockname()[1]}/{user}.png")  # <-- http-client
    return {"bytes": len(answer.content)}
