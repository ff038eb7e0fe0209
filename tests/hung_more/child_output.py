"""A line of a child's output, read in a coroutine.

No frame of `subprocess` is on the stack: `readline` of a pipe is written in C. The line says whose output it is.
"""

import subprocess
import sys

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "subprocess"
TRIGGER = ("/encode",)
SYMPTOM = "/health"

app = FastAPI()
ENCODER = [sys.executable, "-c", "import time; time.sleep(86400)"]


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/encode")
async def encode():
    encoder = subprocess.Popen(ENCODER, stdout=subprocess.PIPE)
    return {"progress": encoder.stdout.readline()}  # <-- subprocess
