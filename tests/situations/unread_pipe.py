"""The same with a pipe of the application's own: asyncio does not know of it, so nobody can say who should read it."""

import asyncio
import os
import sys

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "subprocess"
NEEDS_KERNEL = True
TRIGGER = ("/convert",)
CONTROL = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/convert")
async def convert():
    output, inlet = os.pipe()
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('z' * 900_000)", stdout=inlet)
    await child.wait()  # <-- subprocess
    return {"size": len(os.read(output, 1_000_000))}
