"""An import in a handler waits for another thread's import.

A background thread warms up a slow module: importing it asks a rate server that never answers. The handler
imports the same module, so it waits for that thread's import lock, on the event loop's thread.
"""

import importlib
import sys
import threading
import time
from contextlib import asynccontextmanager

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "import-lock"
TRIGGER = ("/convert",)
SYMPTOM = "/health"


@asynccontextmanager
async def lifespan(app):
    threading.Thread(target=importlib.import_module, args=("import_lock.rates",), daemon=True).start()
    while not hasattr(sys.modules.get("import_lock.rates"), "asking"):
        time.sleep(0.01)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/convert")
async def convert():
    from import_lock.rates import RATES  # <-- import-lock
    return RATES
