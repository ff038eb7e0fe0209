"""The back office as it was: reports, an analysis, a stream of pages, and a thread that cleans up."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import StreamingResponse


class ReportService:
    def __init__(self):
        self.pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="reports")

    def render(self, pages):
        for _ in range(pages):
            time.sleep(0.1)  # in place of one page's work

    def shutdown(self):
        self.pool.shutdown(wait=True)


class AnalysisService:
    def __init__(self):
        self.pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="analysis")

    def shutdown(self):
        self.pool.shutdown(wait=True)


def clean_up():
    while True:
        time.sleep(3600)  # and then remove old reports


@asynccontextmanager
async def lifespan(app):
    app.state.reports, app.state.analysis = ReportService(), AnalysisService()
    threading.Thread(target=clean_up, name="cleanup").start()
    yield
    app.state.reports.shutdown()
    app.state.analysis.shutdown()


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/totals")
def totals():
    return {"reports": 12}


@app.post("/reports")
async def start_report():
    app.state.reports.pool.submit(app.state.reports.render, 600)


def page(number):
    time.sleep(0.05 if number == 0 else 20)  # the first page is soon there
    return f"data: page {number}\n\n"


async def pages():
    with ThreadPoolExecutor(max_workers=2) as pool:
        for number in range(1000):
            yield await asyncio.get_running_loop().run_in_executor(pool, page, number)


@app.get("/pages")
async def stream():
    return StreamingResponse(pages(), media_type="text/event-stream")
