"""Handlers that run the server's own loop again, patched by nest_asyncio: the first returns only when the last has."""

import asyncio

import nest_asyncio
from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "nested-loop"
NEEDS = "nest_asyncio"
NEEDS_KERNEL = True
TRIGGER = ("/label",)
COUNT = 2
CONTROL = "/health"

nest_asyncio.apply()
app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/label")
async def label():
    return asyncio.get_event_loop().run_until_complete(asyncio.sleep(86400, "done"))  # <-- nested-loop
