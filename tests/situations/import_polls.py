"""An application whose import looks again and again for what never comes: it wakes, and makes no progress."""

import os
import time

from fastapi import FastAPI

READY = True
STATE = "startup-hang"
CAUSE = "sleep"

print("READY", flush=True)
while not os.path.exists("/nonexistent/migrated"):
    time.sleep(0.02)  # <-- sleep

app = FastAPI()
