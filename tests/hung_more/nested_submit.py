"""A pool that waits for itself.

Each export submits its pages to the pool that it runs in, and waits for them. With as many exports as threads, all
pages wait in the queue, and every thread waits for a page. The event loop is fine.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "threadpool-limit"
STACKS = "healthy"
TRIGGER = ("/export",)
COUNT = 2
SYMPTOM = "/page"
CONTROL = "/health"

app = FastAPI()
pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="export")
both_inside = threading.Barrier(2)  # makes the unlucky moment certain


def render(page):
    return f"page {page}"


def export():
    both_inside.wait()
    pages = [pool.submit(render, page) for page in range(3)]
    return [page.result() for page in pages]  # <-- threadpool-limit


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/page")
async def page():
    return await asyncio.get_running_loop().run_in_executor(pool, render, 1)


@app.get("/export")
async def export_all():
    return await asyncio.get_running_loop().run_in_executor(pool, export)
