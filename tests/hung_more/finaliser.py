"""A `__del__` that stops a thread.

The last reference to the subscription goes away in a request, so its `__del__` runs on the event loop's thread,
and joins a thread that waits for a broker that never answers.
"""

import socket
import threading

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "gc"
TRIGGER = ("/feed",)
SYMPTOM = "/health"

app = FastAPI()
broker = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


class Subscription:
    def __init__(self):
        self.line = socket.create_connection(broker.getsockname())
        self.messages = threading.Thread(target=listen, args=(self.line,), daemon=True)
        self.messages.start()

    def __del__(self):
        self.messages.join()  # <-- gc
        self.line.close()


def listen(line):
    line.recv(1024)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/feed")
async def feed():
    subscription = Subscription()
    return {"connected": subscription.line.fileno() > 0}
