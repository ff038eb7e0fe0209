"""`queue.SimpleQueue` is written in C.

Its `get()` has no frame: the stack ends in the user's own line, as it does for a lock, and the kernel says
`futex` of both. Only the line tells them apart.
"""

from queue import SimpleQueue

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "queue"
TRIGGER = ("/next",)
SYMPTOM = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


class Dispatcher:
    def __init__(self):
        self._jobs = SimpleQueue()

    def next_job(self):
        return self._jobs.get()  # <-- queue


dispatcher = Dispatcher()


@app.get("/next")
async def next_job():
    return {"job": dispatcher.next_job()}
