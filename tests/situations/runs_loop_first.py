"""A script runs a loop of its own before the server's: it waits for a first message that nobody hands over."""

import asyncio

import uvicorn
from fastapi import FastAPI

SERVER = "script"
STATE = "startup-hang"
CAUSE = "lock"
READY = True
NEEDS_KERNEL = True

app = FastAPI()


async def first_prices():
    arrived = asyncio.Event()
    print("READY", flush=True)
    await arrived.wait()  # <-- lock


if __name__ == "__main__":
    asyncio.run(first_prices())
    uvicorn.run(app, port=8000)
