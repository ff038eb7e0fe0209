"""A lifespan whose first part sleeps on the event loop's thread: the server has not begun to serve."""

import time
from contextlib import asynccontextmanager

from fastapi import FastAPI

READY = True
STATE = "startup-hang"
CAUSE = "sleep"


@asynccontextmanager
async def lifespan(app):
    print("READY", flush=True)
    time.sleep(86_400)  # <-- sleep
    yield


app = FastAPI(lifespan=lifespan)
