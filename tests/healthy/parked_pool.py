"""A healthy server whose pools have worked and rest.

Five `asyncio.to_thread` calls and a `def` request leave idle workers behind: the executor's sit in its queue,
AnyIO's in theirs. Many threads, none of them stuck.
"""

import asyncio
import hashlib

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/digest", "/digest", "/version")
CLIENT = "is answered"
CONTROL = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/version")
def version():
    return {"version": "2.4.1"}


@app.get("/digest")
async def digest():
    parts = [hashlib.sha256, hashlib.sha1, hashlib.md5, hashlib.blake2b, hashlib.sha512]
    made = await asyncio.gather(*(asyncio.to_thread(part, b"news") for part in parts))
    return [one.hexdigest() for one in made]
