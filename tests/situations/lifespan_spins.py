"""A lifespan whose first part waits for an event, while a task that never sleeps burns a CPU: the loop is not idle."""

import asyncio
from contextlib import asynccontextmanager

from fastapi import FastAPI

READY = True
STATE = "startup-hang"
CAUSE = "lock"


async def spin():
    while True:
        await asyncio.sleep(0)


@asynccontextmanager
async def lifespan(app):
    task = asyncio.create_task(spin())
    print("READY", flush=True)
    await asyncio.Event().wait()  # <-- lock
    task.cancel()
    yield


app = FastAPI(lifespan=lifespan)
