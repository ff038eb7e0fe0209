"""A module runs an event loop while it is imported, and waits in it for ever: the server has not begun to serve."""

import asyncio
import importlib
import sys
from pathlib import Path

SERVER = "script"
STATE = "startup-hang"
CAUSE = "queue"
READY = True
NEEDS_KERNEL = True


async def first_rate():
    rates = asyncio.Queue()
    print("READY", flush=True)
    return await rates.get()  # <-- queue


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    importlib.import_module(Path(__file__).stem).app.serve()
else:
    FIRST = asyncio.run(first_rate())
