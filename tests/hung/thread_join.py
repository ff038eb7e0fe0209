"""A coroutine that starts a thread and joins it.

The thread was meant to keep slow work off the event loop; `join()` puts the loop back behind that work.
From CPython 3.13 on the join is C, so the user's own line is all that a stack shows of it.
"""

import socket
import threading

import requests
from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "thread-join"
TRIGGER = ("/search/reindex",)
SYMPTOM = "/health"

app = FastAPI()
search = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


def rebuild(index):
    requests.get(f"http://127.0.0.1:{search.getsockname()[1]}/{index}/_rebuild")


@app.get("/search/reindex")
async def reindex():
    builder = threading.Thread(target=rebuild, args=("articles",), name="index-builder", daemon=True)
    builder.start()
    builder.join()  # <-- thread-join
    return {"reindexed": True}
