"""A C extension that waits for its peer and keeps the GIL.

A driver in C has to give the GIL away before it waits. This one does not, as `ctypes.PyDLL` does not: nothing computes,
and yet the `recv` in a pool's thread holds up every other thread, the event loop's too.
"""

import asyncio
import ctypes
import socket
import time

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "socket"
NEEDS_KERNEL = True
TRIGGER = ("/scale",)
SYMPTOM = "/health"

app = FastAPI()
driver = ctypes.PyDLL(None)
device = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


def weigh():
    with socket.create_connection(device.getsockname()) as line:
        time.sleep(0.2)  # the event loop has long gone back to its poll
        return driver.recv(line.fileno(), ctypes.create_string_buffer(16), 16, 0)  # <-- socket


@app.get("/scale")
async def scale():
    return {"grams": await asyncio.get_running_loop().run_in_executor(None, weigh)}
