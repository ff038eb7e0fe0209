"""A threading.Lock held across an await.

`/import` waits for a slow upload inside of `with catalogue_lock`; the coroutine is suspended, the lock stays locked.
`/search` then takes the lock on the loop's thread, and the loop that alone could resume `/import` waits for it.
"""

import asyncio
import threading

from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "lock"
STACKS = "loop-blocked"
NEEDS_KERNEL = True
TRIGGER = ("/import", "/search")
SYMPTOM = "/health"

app = FastAPI()
catalogue_lock = threading.Lock()
catalogue = {"tea": 3}
importing = threading.Event()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/import")
async def import_():
    with catalogue_lock:
        importing.set()
        await asyncio.sleep(0.3)
        catalogue["coffee"] = 4
    return {"items": len(catalogue)}


@app.get("/search")
async def search():
    while not importing.is_set():
        await asyncio.sleep(0.01)
    with catalogue_lock:  # <-- lock
        return sorted(catalogue)
