"""A consumer that serves nobody: it paused when a batch failed, and what would resume it looks only at full batches.

Its loop is idle, no socket is open, no child runs, and the producer waits for room in the queue behind it.
"""

import asyncio

SERVER = "script"
STATE = "tasks-waiting"
CAUSE = "lock"
READY = True


class Consumer:
    def __init__(self):
        self.jobs = asyncio.Queue(maxsize=3)
        self.resumed = asyncio.Event()
        self.resumed.set()

    async def produce(self):
        for number in range(100):
            await self.jobs.put(number)

    async def consume(self):
        while True:
            await self.resumed.wait()  # <-- lock
            job = await self.jobs.get()
            await asyncio.sleep(0.01)
            if job == 4:
                self.resumed.clear()
            if job % 10 == 9:
                self.resumed.set()


async def main():
    consumer = Consumer()
    asyncio.get_running_loop().call_later(0.5, lambda: print("READY", flush=True))
    await asyncio.gather(consumer.produce(), consumer.consume())


if __name__ == "__main__":
    asyncio.run(main())
