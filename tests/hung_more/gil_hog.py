"""A thread that keeps the GIL in one C call.

The sum runs in a thread, as it should. But `sum(range(...))` is a single C call, and the interpreter changes threads
between bytecodes only: the event loop's thread waits for the GIL until the sum is through, wherever it stands.
"""

import asyncio

from fastapi import FastAPI

STATE = "loop-busy"
CAUSE = "cpu-bound"
NEEDS_KERNEL = True
TRIGGER = ("/checksum",)
SYMPTOM = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


def checksum():
    return sum(range(10**13))  # <-- cpu-bound


@app.get("/checksum")
async def answer():
    return {"checksum": await asyncio.get_running_loop().run_in_executor(None, checksum)}
