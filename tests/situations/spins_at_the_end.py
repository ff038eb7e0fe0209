"""A lifespan whose last part waits for an event, while a task that never sleeps burns a CPU: the loop is not idle."""

import asyncio
from contextlib import asynccontextmanager

from fastapi import FastAPI

STATE = "exit-hang"
CAUSE = "graceful-shutdown"
NEEDS_KERNEL = True
TRIGGER = ("/health",)
CLIENT = "is answered"
SIGNAL = "SIGTERM"


async def spin():
    while True:
        await asyncio.sleep(0)


@asynccontextmanager
async def lifespan(app):
    yield
    task = asyncio.create_task(spin())
    await asyncio.Event().wait()  # <-- graceful-shutdown
    task.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}
