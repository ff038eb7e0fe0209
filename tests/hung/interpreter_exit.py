"""A process that was told to stop and does not.

On Ctrl-C uvicorn closes its port and its loop, and then the interpreter joins every worker of every
ThreadPoolExecutor. One of them waits for a mail gateway that never answers. No event loop is left in the
dump: the frame to open is the worker's, where the work lacks a timeout.
"""

import socket
from concurrent.futures import ThreadPoolExecutor

import requests
from fastapi import FastAPI

STATE = "exit-hang"
CAUSE = "interpreter-exit"
TRIGGER = ("/newsletter/send",)
CLIENT = "is answered"
SIGNAL = "SIGINT"

app = FastAPI()
outbox = ThreadPoolExecutor(max_workers=2, thread_name_prefix="outbox")
gateway = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


def deliver(letter):
    url = f"http://127.0.0.1:{gateway.getsockname()[1]}/send"
    return requests.post(url, json={"letter": letter}).status_code  # <-- interpreter-exit


@app.get("/newsletter/send")
async def send():
    outbox.submit(deliver, "weekly")
    return {"queued": True}
