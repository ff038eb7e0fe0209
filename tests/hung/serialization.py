"""JSON by the hundred megabytes on the event loop.

To announce an export's size the coroutine turns every chapter into JSON and counts the letters. Each chapter
takes a moment, all of them take minutes, and nothing between them gives the loop a turn: encoding is work for
the CPU, not waiting, so `async` does not help it.
"""

import json

from fastapi import FastAPI

STATE = "loop-busy"
CAUSE = "serialization"
TRIGGER = ("/export/size",)
SYMPTOM = "/health"

app = FastAPI()
readings = [{"sensor": f"s-{number}", "celsius": number / 7, "ok": True} for number in range(20_000)]
chapters = [readings] * 20_000


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/export/size")
async def size():
    letters = 0
    for chapter in chapters:
        letters += len(json.dumps(chapter))  # <-- serialization
    return {"bytes": letters}
