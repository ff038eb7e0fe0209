"""A named pipe opened in a coroutine.

`open` of a FIFO waits until somebody opens its other end. It is written in C: the stack ends in the user's line.
"""

import os
import tempfile
from pathlib import Path

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "file-io"
TRIGGER = ("/commands",)
SYMPTOM = "/health"

app = FastAPI()
COMMANDS = Path(tempfile.gettempdir()) / "commands"
os.mkfifo(COMMANDS)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/commands")
async def commands():
    with open(COMMANDS) as pipe:  # <-- file-io
        return {"commands": pipe.readlines()}
