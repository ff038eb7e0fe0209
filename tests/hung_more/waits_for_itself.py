"""A pool whose workers wait for work that is queued behind them.

Each of the two workers hands its pages to the pool that it belongs to, and waits for them. No worker is left to take
them: the pool waits for itself.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI

STATE = "threadpool-exhausted"
CAUSE = "threadpool-limit"
NEEDS_KERNEL = True
TRIGGER = ("/books/tea",)
COUNT = 2
SYMPTOM = "/pages/1"
CONTROL = "/health"

app = FastAPI()
pool = ThreadPoolExecutor(max_workers=2)
both = threading.Barrier(2)  # two books at a time


@app.get("/health")
async def health():
    return {"status": "ok"}


def page(number):
    return f"page {number}"


def book(name):
    both.wait()
    pages = [pool.submit(page, number) for number in range(2)]
    return [one.result() for one in pages]  # <-- threadpool-limit


@app.get("/books/{name}")
async def render(name: str):
    return await asyncio.get_running_loop().run_in_executor(pool, book, name)


@app.get("/pages/{number}")
async def one_page(number: int):
    return await asyncio.get_running_loop().run_in_executor(pool, page, number)
