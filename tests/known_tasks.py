"""Tasks that wait in every way, with names that a test knows; `known_tasks.py 1000` adds as many that sleep."""

import asyncio
import sys
from contextlib import asynccontextmanager


class Gate(asyncio.Semaphore):
    """A subclass is known by its parent."""


class Jobs:
    def __init__(self):
        self.lock, self.flag, self.gate = asyncio.Lock(), asyncio.Event(), Gate(0)
        self.door = asyncio.Semaphore(2)
        self.news, self.full = asyncio.Queue(), asyncio.Queue(1)
        self.full.put_nowait("one")
        self.never = asyncio.get_running_loop().create_future()

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


async def outer(more):
    jobs = Jobs()
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
    }
    tasks = [asyncio.create_task(one, name=name) for name, one in work.items()]
    tasks += [asyncio.create_task(asyncio.sleep(3600), name=f"more-{index}") for index in range(more)]
    for _ in range(5):
        await asyncio.sleep(0)  # every task comes to its wait
    asyncio.get_running_loop().call_soon(lambda: print("waiting", flush=True))  # when this one has come to its own
    await main(tasks[8])  # outer


asyncio.run(outer(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
