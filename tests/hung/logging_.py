"""A log handler whose stream is a full pipe.

The process that should read the log has stalled. The pipe holds 64 KiB; the next record is written by the
event loop's thread, in the middle of a request, and the write does not return.
"""

import logging
import os

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "logging"
TRIGGER = ("/audit",)
SYMPTOM = "/health"

app = FastAPI()
reader, writer = os.pipe()  # nobody reads
audit_log = logging.getLogger("audit")
audit_log.addHandler(logging.StreamHandler(os.fdopen(writer, "w")))


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/audit")
async def audit():
    for number in range(10_000):
        audit_log.warning("order %d was changed by hand", number)  # <-- logging
