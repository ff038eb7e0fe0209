"""A barrier for three, and one of them does not come.

The third shard fails before it reaches the barrier. The handler waits there on the event loop's thread, and no timeout
breaks the barrier.
"""

import threading

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "lock"
TRIGGER = ("/snapshot",)
SYMPTOM = "/health"

app = FastAPI()
shards = {"a": "3", "b": "n/a"}


def read(shard, ready):
    shards[shard] = int(shards[shard])
    ready.wait()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/snapshot")
async def snapshot():
    ready = threading.Barrier(3)
    for shard in shards:
        threading.Thread(target=read, args=(shard, ready), name=f"shard-{shard}", daemon=True).start()
    ready.wait()  # <-- lock
    return shards
