"""A child process waited for in a coroutine.

The route converts a picture with `subprocess.run`, and the converter does not return.
"""

import subprocess
import sys

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "subprocess"
TRIGGER = ("/thumbnail",)
SYMPTOM = "/health"

app = FastAPI()
CONVERTER = [sys.executable, "-c", "import time; time.sleep(86400)"]


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/thumbnail")
async def thumbnail():
    done = subprocess.run(CONVERTER, check=True)  # <-- subprocess
    return {"status": done.returncode}
