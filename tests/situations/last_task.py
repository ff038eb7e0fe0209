"""A background task that never ends, long after its request was answered: a server that stops waits for it."""

import asyncio

from fastapi import BackgroundTasks, FastAPI

STATE = "exit-hang"
CAUSE = "graceful-shutdown"
NEEDS_KERNEL = True
TRIGGER = ("/send",)
CLIENT = "is answered"
SIGNAL = "SIGTERM"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


async def send():
    await asyncio.Event().wait()  # <-- graceful-shutdown


@app.get("/send")
async def start(tasks: BackgroundTasks):
    tasks.add_task(send)
    return {"sent": True}
