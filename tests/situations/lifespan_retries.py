"""A lifespan that asks again and again whether a database is there. It is slow, or it never ends: nobody can tell."""

import asyncio
from contextlib import asynccontextmanager

from fastapi import FastAPI

READY = True
STATE = "startup-hang"
CAUSE = "sleep"


@asynccontextmanager
async def lifespan(app):
    print("READY", flush=True)
    while True:
        try:
            await asyncio.open_connection("127.0.0.1", 1)
            break
        except OSError:
            await asyncio.sleep(20)  # <-- sleep
    yield


app = FastAPI(lifespan=lifespan)
