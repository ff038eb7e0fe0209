"""A healthy server at rest.

Its event loop waits in `select` for the next request. A dump of it must not raise an alarm.
"""

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
CONTROL = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}
