"""Step 1: streams end when the server is told to stop, and their threads when a reader leaves."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from stream_executor import stream_results
from uvicorn_signals import told_to_stop, until


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
    app.state.readers = ThreadPoolExecutor(max_workers=20, thread_name_prefix="readers")
    async with told_to_stop() as app.state.closing:
        yield
    app.state.readers.shutdown(wait=False, cancel_futures=True)  # each stream has told its own calls to stop
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


def page(number, stop):
    stop.wait(0.05 if number == 0 else 20)  # the first page is soon there
    return f"data: page {number}\n\n"


@app.get("/pages")
async def stream():
    pages = stream_results(page, itertools.count(), workers=1, pool=app.state.readers)
    return StreamingResponse(until(app.state.closing, pages), media_type="text/event-stream")
