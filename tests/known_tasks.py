"""Tasks that wait in every way, with names that a test knows; `known_tasks.py 1000` adds as many that sleep.

`known_tasks.py pure` has tasks and futures that are written in Python, as `nest_asyncio` makes them.
"""

import asyncio
import sys
import threading
import time
from contextlib import AsyncExitStack, asynccontextmanager

if "pure" in sys.argv:
    asyncio.Task = asyncio.tasks.Task = asyncio.tasks._PyTask
    asyncio.Future = asyncio.futures.Future = asyncio.futures._PyFuture
    if sys.version_info >= (3, 14):  # from there on each kind of task has a current one of its own
        asyncio.current_task = asyncio.tasks.current_task = asyncio.tasks._py_current_task


class Gate(asyncio.Semaphore):
    """A subclass is known by its parent."""


class Jobs:
    def __init__(self):
        self.lock, self.flag, self.gate = asyncio.Lock(), asyncio.Event(), Gate(0)
        self.door = asyncio.Semaphore(2)
        self.news, self.more, self.full = asyncio.Queue(), asyncio.Queue(), asyncio.Queue(1)
        self.full.put_nowait("one")
        self.never, self.done = (asyncio.get_running_loop().create_future() for _ in range(2))

    async def enter_twice(self):
        async with self.lock, self.lock:  # twice
            pass

    async def source(self):
        while True:
            yield await self.news.get()  # source

    async def listen(self):
        async for item in self.source():  # listen
            print(item)

    async def wait_for_flag(self):
        await self.flag.wait()  # flag

    async def deep(self, depth):
        if depth:
            await self.deep(depth - 1)  # deeper
        await self.never  # bottom

    async def timed(self):
        await asyncio.wait_for(asyncio.shield(self.never), 3600)  # timed

    @asynccontextmanager
    async def opened(self):
        async with self.door:
            yield

    @asynccontextmanager
    async def gateway(self):
        async with asyncio.Semaphore(1):
            yield

    async def numbers(self):
        async with self.door:
            yield 1

    async def behind_a_manager(self):
        async with self.opened():
            await self.never

    async def behind_a_generator(self):
        async for _ in self.numbers():
            await self.never

    async def at_the_door(self):
        async with self.opened():
            pass

    async def swallow(self):
        while True:
            try:  # noqa: SIM105  it is what a program does that swallows its end
                await self.more.get()
            except asyncio.CancelledError:
                pass

    async def late(self, task):
        await asyncio.wait_for(task, 0.01)

    async def several(self, task):
        await asyncio.wait([task])

    async def both(self, task):
        await asyncio.gather(task, self.never)

    async def through_a_stack(self):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.gateway())
            await self.never

    async def ready(self):
        await self.done

    async def put(self):
        await self.full.put("two")

    async def end_badly(self):
        if not self.flag.is_set():
            raise ValueError("spoilt")
        self.flag.set()

    async def release_later(self):
        await asyncio.shield(self.never)
        self.lock.release()


async def main(inner):
    await inner  # main


def end_and_say(future):
    """End a future from a thread: nothing wakes the loop that would run who awaits it."""
    time.sleep(0.2)  # until every other task has come to its wait
    future.set_result(1)
    print("waiting", flush=True)


async def outer(more):
    jobs = Jobs()
    swallow = asyncio.create_task(jobs.swallow(), name="swallow")
    asyncio.current_task().set_name("main")
    work = {
        "twice": jobs.enter_twice(),
        "list\u00e9n": jobs.listen(),
        "flag": jobs.wait_for_flag(),
        "put": jobs.put(),
        "nap": asyncio.sleep(3600),
        "deep": jobs.deep(30),
        "timed": jobs.timed(),
        "bad": jobs.end_badly(),
        "inner": jobs.release_later(),
        "subclass": jobs.gate.acquire(),
        "manager": jobs.behind_a_manager(),
        "generator": jobs.behind_a_generator(),
        "door": jobs.at_the_door(),
        "late": jobs.late(swallow),
        "several": jobs.several(swallow),
        "both": jobs.both(swallow),
        "stack": jobs.through_a_stack(),
        "ready": jobs.ready(),
    }
    tasks = [asyncio.create_task(one, name=name) for name, one in work.items()]
    tasks += [asyncio.create_task(asyncio.sleep(3600), name=f"more-{index}") for index in range(more)]
    for _ in range(5):
        await asyncio.sleep(0)  # every task comes to its wait
    threading.Thread(target=end_and_say, args=(jobs.done,), daemon=True).start()
    await main(tasks[8])  # outer


asyncio.run(outer(int(sys.argv[1]) if sys.argv[1:] and sys.argv[1].isdigit() else 0))
