"""A healthy server under load whose loop spends its time in a library's function, with no frame of its own on it."""

import asyncio
import gzip

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
LOAD = ("/orders", "/orders", "/orders")
CONTROL = "/health"

app = FastAPI()
journal = "".join(f"{number * 7919 % 10007};" for number in range(150_000)).encode()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/orders")
async def orders():
    asyncio.get_running_loop().call_soon(gzip.compress, journal)
    return {"orders": 3}
