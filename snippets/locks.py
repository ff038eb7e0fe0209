"""Give permits and locks back on every path, take several in one order, and never wait for one without end.

    renderers = asyncio.Semaphore(2)

    async def render(template: str) -> str:
        async with permit(renderers, seconds=5):    # not acquire() ... release(): an error between them
            return await rendered(template)         # keeps the permit, and after the last one all wait

    def restock(item: str) -> None:
        with in_order(shelves_lock, ledger_lock, seconds=5):   # the order of the arguments does not matter
            ...

Use when   a lock or a permit is taken by hand, or two locks are taken one inside of the other (`deadlock`).
Not when   one lock would do: it needs no order. Threads and coroutines need a lock of their own kind each.
Costs      an error where you had silence: who waits longer than `seconds` gets a TimeoutError. Answer 503.
Python     3.9 and later.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager


@asynccontextmanager
async def permit(semaphore: asyncio.Semaphore, seconds: float) -> AsyncIterator[None]:
    """A permit, or asyncio's TimeoutError; given back on return, on an error and on cancellation."""
    await asyncio.wait_for(semaphore.acquire(), seconds)
    try:
        yield
    finally:
        semaphore.release()


@contextmanager
def in_order(*locks: threading.Lock, seconds: float) -> Iterator[None]:
    """All of the locks, always in one order, whoever asks. Raises TimeoutError with none of them taken."""
    until = time.monotonic() + seconds
    with ExitStack() as taken:
        for lock in sorted(locks, key=id):  # any order will do, as long as it is the same everywhere
            if not lock.acquire(timeout=max(0.0, until - time.monotonic())):
                raise TimeoutError(f"a lock was not free within {seconds:g} s")
            taken.callback(lock.release)
        yield


if __name__ == "__main__":  # a demonstration: two threads in opposite orders, and requests that fail

    def move(first: threading.Lock, second: threading.Lock) -> None:
        for _ in range(1000):
            with in_order(first, second, seconds=5):
                pass

    a, b = threading.Lock(), threading.Lock()
    threads = [threading.Thread(target=move, args=pair) for pair in ((a, b), (b, a))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("two threads took both locks 1000 times in opposite orders")

    async def fail(renderers: asyncio.Semaphore) -> None:
        for _ in range(3):
            try:
                async with permit(renderers, seconds=1):
                    raise ValueError("no such template")
            except ValueError:
                print("a failed request gave its permit back")

    asyncio.run(fail(asyncio.Semaphore(2)))
