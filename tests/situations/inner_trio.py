"""A handler calls a library that speaks trio alone: trio's loop runs inside of asyncio's, which stands still."""

import trio
from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "nested-loop"
NEEDS = "trio"
NEEDS_KERNEL = True
TRIGGER = ("/signal",)
SYMPTOM = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


async def wait_for_caller():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    return await listeners[0].accept()


@app.get("/signal")
async def signal():
    return {"caller": str(trio.run(wait_for_caller))}  # <-- nested-loop
