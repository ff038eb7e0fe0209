"""A threading.Event in a coroutine.

The model is loaded in a thread, and `ready.wait()` waits for it on the event loop's thread. The thread has failed
long ago: nobody is left to set the event.
"""

import threading

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "lock"
TRIGGER = ("/classify",)
SYMPTOM = "/health"

app = FastAPI()
ready = threading.Event()


@app.get("/health")
async def health():
    return {"status": "ok"}


def load(path):
    with open(path) as weights:
        app.state.model = weights.read()
    ready.set()


@app.get("/classify")
async def classify():
    threading.Thread(target=load, args=("/nowhere/model.bin",), daemon=True).start()
    ready.wait()  # <-- lock
    return {"model": app.state.model}
