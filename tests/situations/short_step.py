"""A program whose coroutine holds the loop for a moment, as asyncio's debug log tells."""

import asyncio
import time

SERVER = "script"
READY = True
LOOK = "log"
STATE = "inconclusive"
CAUSE = "other"


async def price(item):
    await asyncio.sleep(0)
    time.sleep(0.2)
    await asyncio.sleep(0.01)  # <-- other


async def main():
    await asyncio.gather(*(price(item) for item in ("tea", "milk")))
    print("READY", flush=True)
    await asyncio.sleep(86_400)


asyncio.run(main(), debug=True)
