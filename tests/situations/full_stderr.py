"""A request reads a child's first line, and the child writes warnings that nobody reads: it never comes to the line."""

import asyncio
import sys

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "subprocess"
NEEDS_KERNEL = True
TRIGGER = ("/convert",)
CONTROL = "/health"

app = FastAPI()
TALKS = "import sys; sys.stderr.write('warning: odd pixel\\n' * 40_000); print('converted')"
PIPE = asyncio.subprocess.PIPE


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/convert")
async def convert():
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", TALKS, stdout=PIPE, stderr=PIPE)
    return {"said": await child.stdout.readline()}  # <-- subprocess
