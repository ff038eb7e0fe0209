"""A healthy server with threads that sleep on purpose.

A metrics thread sleeps between two reports, a consumer waits for its queue, a watcher for an event, and two others
each before a lock that requests open. They look like the causes `sleep`, `queue` and `lock`, but none of them is the
event loop's thread, and none has what another one waits for.
"""

import queue
import threading
import time
from contextlib import asynccontextmanager

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
CONTROL = "/health"

audit = queue.Queue()
reload_asked = threading.Event()
mail_gate, report_gate = threading.Lock(), threading.Lock()


def report_metrics():
    while True:
        time.sleep(60)


def write_audit_log():
    while True:
        audit.get()


def watch_settings():
    while reload_asked.wait():
        reload_asked.clear()


def send_mail():
    mail_gate.acquire()
    while True:
        mail_gate.acquire()


def print_report():
    report_gate.acquire()
    while True:
        report_gate.acquire()


@asynccontextmanager
async def lifespan(app):
    for work in (report_metrics, write_audit_log, watch_settings, send_mail, print_report):
        threading.Thread(target=work, name=work.__name__, daemon=True).start()
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    audit.put("health asked")
    return {"status": "ok"}
