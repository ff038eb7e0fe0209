"""A lifespan that never ends: its last call awaits an answer that does not come.

On SIGTERM uvicorn closes its port and waits for the lifespan, which says goodbye to a registry. The event loop is idle
and no thread works: only the list of tasks shows who waits.
"""

import asyncio
import socket
from contextlib import asynccontextmanager

from fastapi import FastAPI

STATE = "exit-hang"
CAUSE = "graceful-shutdown"
NEEDS_KERNEL = True
TRIGGER = ("/health",)
CLIENT = "is answered"
SIGNAL = "SIGTERM"

registry = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@asynccontextmanager
async def lifespan(app):
    reader, writer = await asyncio.open_connection(*registry.getsockname())
    yield
    writer.write(b"LEAVE\n")
    await reader.readline()  # <-- graceful-shutdown


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}
