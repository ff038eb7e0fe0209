"""Pools for the routes, each given back at the end of its request."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager


def drain(pool):
    pool.shutdown()  # <-- executor-shutdown


@asynccontextmanager
async def borrow(workers):
    pool = ThreadPoolExecutor(workers, thread_name_prefix="borrowed")
    try:
        yield pool
    finally:
        drain(pool)
