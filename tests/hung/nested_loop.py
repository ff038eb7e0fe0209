"""A second event loop, run inside the first one's thread.

`run_sync` is the helper that many a code base has for calling a coroutine from synchronous code: it hides the
running loop and runs another. The outer loop serves nobody until the inner one is done.
"""

import asyncio

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "nested-loop"
TRIGGER = ("/feature",)
SYMPTOM = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


def run_sync(coroutine):
    outer = asyncio.get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return asyncio.new_event_loop().run_until_complete(coroutine)  # <-- nested-loop
    finally:
        asyncio._set_running_loop(outer)


async def flags():
    await asyncio.sleep(86400)
    return {}


@app.get("/feature")
async def feature():
    return run_sync(flags())
