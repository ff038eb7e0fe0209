"""A healthy server whose 40 threads for `def` handlers all hold a long poll, and nobody waits for one of them.

AnyIO's limiter is exactly full. The next `def` request would wait; none has come, and each poll ends by itself.
"""

import threading

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/news",)
COUNT = 40
CONTROL = "/health"

published = threading.Event()
app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/news")
def news():
    published.wait(120)
    return {"news": published.is_set()}
