"""Step 3: the thread that cleans up can be stopped as well."""

from __future__ import annotations

import itertools
import time
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from periodic_cleanup import PeriodicThread
from service_lifespan import GRACE, Threads
from stream_executor import stream_results
from uvicorn_signals import told_to_stop, until


class ReportService:
    def __init__(self):
        self.threads = Threads("reports", workers=4)

    def render(self, pages):
        for _ in range(pages):
            if self.threads.stopping.wait(0.1):  # in place of one page's work
                return


class AnalysisService:
    def __init__(self):
        self.threads = Threads("analysis", workers=2)


def clean_up():
    pass  # remove old reports


@asynccontextmanager
async def lifespan(app):
    app.state.reports, app.state.analysis = ReportService(), AnalysisService()
    cleaner = PeriodicThread(clean_up, every=3600)
    app.state.readers = Threads("readers", workers=20)
    try:
        async with told_to_stop() as app.state.closing:
            yield
    finally:
        running = [app.state.readers, app.state.analysis.threads, app.state.reports.threads]
        until_then = time.monotonic() + GRACE
        for each in running:
            each.tell()
        for each in running:
            await each.ended(until_then)
        await cleaner.stop_async(1)


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/totals")
def totals():
    return {"reports": 12}


@app.post("/reports")
async def start_report():
    app.state.reports.threads.pool.submit(app.state.reports.render, 600)


def page(number, stop):
    stop.wait(0.05 if number == 0 else 20)  # the first page is soon there
    return f"data: page {number}\n\n"


@app.get("/pages")
async def stream():
    pages = stream_results(page, itertools.count(), workers=1, pool=app.state.readers.pool)
    return StreamingResponse(until(app.state.closing, pages), media_type="text/event-stream")
