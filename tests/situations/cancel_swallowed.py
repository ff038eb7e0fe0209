"""A program that Ctrl-C has told to stop: its main coroutine was cancelled, swallowed that, and waits on.

A timeout cancelled it before, and took that back: this is no sign of an end.
"""

import asyncio

SERVER = "script"
READY = True
STATE = "exit-hang"
CAUSE = "graceful-shutdown"
SIGNAL = "SIGINT"


async def main():
    try:
        async with asyncio.timeout(0):
            await asyncio.sleep(86_400)
    except TimeoutError:
        pass  # it was cancelled, and that was taken back
    await work()


async def work():
    while True:
        try:
            print("READY", flush=True)
            await asyncio.sleep(86_400)  # <-- graceful-shutdown
        except asyncio.CancelledError:
            pass


asyncio.run(main())
