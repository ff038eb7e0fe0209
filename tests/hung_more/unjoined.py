"""`asyncio.run` joins the default executor before it returns.

On Ctrl-C the server closes its port, and then asyncio waits for every thread of the loop's default executor. One of
them waits for a mail gateway that never answers, so the process does not end.
"""

import asyncio
import socket

import requests
from fastapi import FastAPI

STATE = "exit-hang"
CAUSE = "default-executor"
TRIGGER = ("/letters/send",)
CLIENT = "is answered"
SIGNAL = "SIGINT"

app = FastAPI()
gateway = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
sending = set()


@app.get("/health")
async def health():
    return {"status": "ok"}


def deliver(letter):
    url = f"http://127.0.0.1:{gateway.getsockname()[1]}/send"
    return requests.post(url, json={"letter": letter}).status_code  # <-- default-executor


@app.get("/letters/send")
async def send():
    sending.add(asyncio.get_running_loop().run_in_executor(None, deliver, "weekly"))
    return {"queued": True}
