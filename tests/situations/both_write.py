"""A request writes to a child and does not read from it, and the child does the same: both pipes are full."""

import asyncio

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "subprocess"
NEEDS_KERNEL = True
TRIGGER = ("/convert",)
CONTROL = "/health"

app = FastAPI()
PIPE = asyncio.subprocess.PIPE


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/convert")
async def convert():
    child = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    for _ in range(100):
        child.stdin.write(b"z" * 65536)
        await child.stdin.drain()  # <-- subprocess
    child.stdin.close()
    return {"size": len(await child.stdout.read())}
