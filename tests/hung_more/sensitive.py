"""asgiref runs all thread-sensitive calls in one thread.

Django's ORM, views and middleware go through `sync_to_async`, whose calls are thread-sensitive unless told otherwise:
they share a single thread. One of them waits for a service that never answers, and all others queue behind it.
"""

import socket

import requests
from asgiref.sync import sync_to_async
from fastapi import FastAPI

STATE = "threadpool-exhausted"
CAUSE = "threadpool-limit"
NEEDS = "asgiref"
NEEDS_KERNEL = True
TRIGGER = ("/orders/7/export",)
SYMPTOM = "/orders/7"
CONTROL = "/health"

app = FastAPI()
archive = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


def export_order(number):
    url = f"http://127.0.0.1:{archive.getsockname()[1]}/{number}"
    return requests.post(url).status_code  # <-- threadpool-limit


def load_order(number):
    return {"number": number}


@app.get("/orders/{number}/export")
async def export(number: int):
    return {"status": await sync_to_async(export_order)(number)}


@app.get("/orders/{number}")
async def order(number: int):
    return await sync_to_async(load_order)(number)
