"""A lifespan whose first part awaits an answer that never comes. The loop is idle, and no port is open."""

import asyncio
import socket
from contextlib import asynccontextmanager

from fastapi import FastAPI

READY = True
STATE = "startup-hang"
CAUSE = "socket"

database = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@asynccontextmanager
async def lifespan(app):
    reader, _writer = await asyncio.open_connection(*database.getsockname())
    print("READY", flush=True)
    await reader.readline()  # <-- socket
    yield


app = FastAPI(lifespan=lifespan)
