"""A request waits for a converter to end before it reads what that wrote; the converter waits for its pipe to be read."""

import asyncio
import sys

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "subprocess"
NEEDS_KERNEL = True
TRIGGER = ("/convert",)
COUNT = 2
CONTROL = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/convert")
async def convert():
    code = "print('z' * 900_000)"
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    await child.wait()  # <-- subprocess
    return {"size": len(await child.stdout.read())}
