"""A thread sets an asyncio.Event by itself: the request could go on, and nothing wakes the sleeping loop to run it.

Any other request would wake it, so it sends the only one itself.
"""

import asyncio
import socket
import threading
import time

from fastapi import FastAPI
from hypercorn.asyncio import serve
from hypercorn.config import Config

SERVER = "script"
STATE = "tasks-waiting"
CAUSE = "lock"
NEEDS = "hypercorn"
READY = True

app = FastAPI()


@app.get("/parcel")
async def parcel():
    arrived = asyncio.Event()
    threading.Thread(target=lambda: (time.sleep(0.3), arrived.set()), daemon=True).start()
    await arrived.wait()  # <-- lock
    return {"parcel": 7}


def ask(address):
    with socket.create_connection(address) as client:
        client.sendall(b"GET /parcel HTTP/1.1\r\nHost: here\r\n\r\n")
        time.sleep(2)
        print("READY", flush=True)
        time.sleep(86400)


if __name__ == "__main__":
    config, listener = Config(), socket.create_server(("127.0.0.1", 0))
    config.bind = [f"fd://{listener.fileno()}"]
    threading.Thread(target=ask, args=(listener.getsockname(),), daemon=True).start()
    asyncio.run(serve(app, config))
