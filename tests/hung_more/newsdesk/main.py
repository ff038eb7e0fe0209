"""The join hides two modules away from the route.

The route asks the core package for a pool and for its end, as a tidy code base does. The stack of the hung
loop holds a frame of each module; the one to open is the innermost, in `core/pools.py`.
"""

from fastapi import FastAPI

from newsdesk.routes import stream

STATE = "loop-blocked"
CAUSE = "executor-shutdown"
TRIGGER = ("/news",)
CLIENT = "leaves"
SYMPTOM = "/health"

app = FastAPI()
app.include_router(stream.router)


@app.get("/health")
async def health():
    return {"status": "ok"}
