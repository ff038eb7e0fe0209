"""A program whose main coroutine has ended, and asyncio's runner waits for a task that swallows its cancellation."""

import asyncio

SERVER = "script"
READY = True
STATE = "exit-hang"
CAUSE = "graceful-shutdown"


async def beat():
    while True:
        try:
            await asyncio.sleep(86_400)  # <-- graceful-shutdown
        except asyncio.CancelledError:
            print("READY", flush=True)


async def main():
    asyncio.get_running_loop().beat = asyncio.create_task(beat())
    await asyncio.sleep(0.1)


asyncio.run(main())
