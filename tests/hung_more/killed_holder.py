"""A lock of multiprocessing whose holder was killed.

The kernel frees a file lock when its owner dies, and a semaphore it does not. The child is killed inside of
`with pages` (out of memory, say), and the server then waits for a process that does not exist.
"""

import multiprocessing
import os
import signal

from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "lock"
STACKS = "loop-blocked"
NEEDS_KERNEL = True
TRIGGER = ("/render",)
SYMPTOM = "/health"

app = FastAPI()
fork = multiprocessing.get_context("fork")
pages = fork.Lock()


def render():
    with pages:
        os.kill(os.getpid(), signal.SIGKILL)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/render")
async def show():
    child = fork.Process(target=render, daemon=True)
    child.start()
    child.join()
    with pages:  # <-- lock
        return {"exit": child.exitcode}
