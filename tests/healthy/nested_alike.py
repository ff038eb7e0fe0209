"""A handler runs the server's own loop, once more, and waits in it for hours.

`nest_asyncio` lets `run_until_complete` be called where the loop runs already. By its stack the loop's thread has been
in that handler all the time. But it is the same loop that runs there, and it serves everybody.
"""

import asyncio

import nest_asyncio
from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
NEEDS = "nest_asyncio"
NEEDS_KERNEL = True
TRIGGER = ("/forecast",)
CONTROL = "/health"

nest_asyncio.apply()
app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


async def compute():
    await asyncio.sleep(86400)
    return {"rain": True}


@app.get("/forecast")
async def forecast():
    return asyncio.get_event_loop().run_until_complete(compute())
