"""A healthy server whose 40 threads for `def` handlers are all in use, and go on; some requests wait for their turn."""

import time

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/news",)
COUNT = 44
CONTROL = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/news")
def news():
    for _ in range(600):
        time.sleep(0.05)
    return {"news": None}
