"""A pipeline that goes on, slowly: its producer waits for room behind a consumer that takes its time with each job.

Beside it wait, for ever and rightly: a task for an event that nobody sets, in a loop that calls `get` of a dictionary,
and `main` itself. None of them reads the full queue.
"""

import asyncio

SERVER = "script"
READY = True
STATE = "healthy"
CAUSE = "none"


async def produce(jobs):
    while True:
        await jobs.put(1)


async def consume(jobs):
    while True:
        await jobs.get()
        await asyncio.sleep(30)


async def reload(changed, settings):
    while True:
        await changed.wait()
        settings.get("jobs")


async def main():
    jobs = asyncio.Queue(3)
    asyncio.get_running_loop().call_later(0.5, lambda: print("READY", flush=True))
    tasks = [produce(jobs), consume(jobs), reload(asyncio.Event(), {})]
    running = [asyncio.create_task(task) for task in tasks]
    await asyncio.Event().wait()
    del running


if __name__ == "__main__":
    asyncio.run(main())
