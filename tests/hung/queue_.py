"""A `queue.Queue` read in a coroutine.

The route takes the next job's result from a queue that threads fill. The thread that filled it ended with an
exception, so `get()` holds the event loop's thread for ever.
"""

import queue
import threading

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "queue"
TRIGGER = ("/report",)
SYMPTOM = "/health"

app = FastAPI()
results = queue.Queue()


@app.get("/health")
async def health():
    return {"status": "ok"}


def render(rows):
    try:
        results.put(sum(rows) / len(rows))
    except ZeroDivisionError:
        return  # logged elsewhere, and nobody tells the reader


@app.get("/report")
async def report():
    threading.Thread(target=render, args=([],)).start()
    return {"report": results.get()}  # <-- queue
