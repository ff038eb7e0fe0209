"""`concurrent.futures.wait` in a coroutine.

It has the name of asyncio's `wait`, and no `await` in front: it blocks the event loop's thread until the slowest of
the calls is done.
"""

import socket
from concurrent.futures import ThreadPoolExecutor, wait

import requests
from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "future-result"
TRIGGER = ("/search?words=tea",)
SYMPTOM = "/health"

app = FastAPI()
pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="shards")
shards = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


def ask(shard, words):
    return requests.get(f"http://127.0.0.1:{shards.getsockname()[1]}/{shard}?q={words}").json()


@app.get("/search")
async def search(words: str):
    done, _ = wait([pool.submit(ask, shard, words) for shard in range(2)])  # <-- future-result
    return {"hits": sum(len(one.result()) for one in done)}
