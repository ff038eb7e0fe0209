"""An import puts all its rows into a bounded queue before anybody takes one out: a body with more rows never returns.

Every GET answers, and so does an import of at most eight rows. No request but this one shows that anything hangs.
"""

import asyncio

from fastapi import FastAPI
from pydantic import BaseModel

STATE = "tasks-waiting"
CAUSE = "queue"
TRIGGER = ('POST /imports {"rows": ["1", "2", "3", "4", "5", "6", "7", "8", "9"]}',)
CONTROL = "/health"

app = FastAPI()
stored = []


class Import(BaseModel):
    rows: list


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/rows")
async def rows():
    return {"rows": stored}


async def store(waiting):
    count = 0
    while not waiting.empty():
        stored.append(await waiting.get())
        count += 1
    return count


@app.post("/imports")
async def import_rows(sent: Import):
    waiting = asyncio.Queue(maxsize=8)
    for row in sent.rows:
        await waiting.put(row)  # <-- queue
    return {"stored": await store(waiting)}
