"""A file lock that another process holds.

The nightly import takes an exclusive `flock` on the price list and does not let go; the coroutine asks for
the same lock and blocks the event loop's thread in the kernel. A stack ends in the user's line; only the
line and the kernel say `flock`.
"""

import fcntl
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "file-io"
TRIGGER = ("/prices",)
SYMPTOM = "/health"

PRICES = Path(tempfile.gettempdir()) / "prices.csv"
NIGHTLY = """
import fcntl, sys, time
prices = open(sys.argv[1], "a")
fcntl.flock(prices, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(86400)
"""


@asynccontextmanager
async def lifespan(app):
    nightly = subprocess.Popen([sys.executable, "-c", NIGHTLY, str(PRICES)], stdout=subprocess.PIPE)
    nightly.stdout.readline()
    yield
    nightly.kill()


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/prices")
async def prices():
    with PRICES.open() as table:
        fcntl.flock(table, fcntl.LOCK_SH)  # <-- file-io
        return {"prices": table.read().splitlines()}
