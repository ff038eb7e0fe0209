"""A `def` handler waits for a lock whose holder waits for a slow peer: it may go on, or never leave the lock."""

import socket
import threading

from fastapi import FastAPI

STATE = "inconclusive"
CAUSE = "socket"
NEEDS_KERNEL = True
TRIGGER = ("/rates",)
CONTROL = "/health"

app = FastAPI()
rates_lock = threading.Lock()
bank = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


def load_rates():
    with rates_lock, socket.create_connection(bank.getsockname()) as line:
        line.recv(1)  # <-- socket


threading.Thread(target=load_rates, daemon=True).start()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/rates")
def rates():
    with rates_lock:
        return {"rates": 3}
