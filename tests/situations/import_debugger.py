"""Left in from a session with a debugger: the import waits for an editor to attach."""

import debugpy
from fastapi import FastAPI

READY = True
STATE = "startup-hang"
CAUSE = "debugger"
NEEDS = "debugpy"

debugpy.listen(("127.0.0.1", 0))
print("READY", flush=True)
debugpy.wait_for_client()  # <-- debugger

app = FastAPI()
