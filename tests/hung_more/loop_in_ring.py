"""The event loop is one of the two threads that take two locks in opposite orders.

The cache's writer thread holds the cache's lock and wants to count the write; the handler holds the counters' lock and
wants to read the cache. Each class has one lock, named alike, and looks harmless by itself.
"""

import threading

from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "lock"
STACKS = "loop-blocked"
TRIGGER = ("/stats",)
SYMPTOM = "/health"

app = FastAPI()
both_inside = threading.Barrier(2)  # makes the unlucky moment certain


class Counters:
    def __init__(self):
        self.lock = threading.Lock()
        self.writes = 0

    def count(self):
        with self.lock:  # <-- lock
            self.writes += 1

    def report(self, cache):
        with self.lock:
            both_inside.wait()
            return {"writes": self.writes, "size": cache.size()}


class Cache:
    def __init__(self):
        self.lock = threading.Lock()
        self.items = {}

    def size(self):
        with self.lock:  # <-- lock
            return len(self.items)

    def write(self, key, value):
        with self.lock:
            self.items[key] = value
            both_inside.wait()
            counters.count()


counters, cache = Counters(), Cache()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/stats")
async def stats():
    threading.Thread(target=cache.write, args=("tea", 3), name="cache-writer", daemon=True).start()
    return counters.report(cache)
