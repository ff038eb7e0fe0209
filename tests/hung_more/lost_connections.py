"""A pool of connections, kept in a queue, that are lost one by one.

`report` borrows a connection and gives it back, but not when the report is unknown: the exception skips the line that
does so. After two such requests the queue is empty for good. The only `put_nowait()` that is left stands behind the
wait itself.
"""

import asyncio
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException

STATE = "tasks-waiting"
CAUSE = "queue"
TRIGGER = ("/report/no-such-report",)
COUNT = 2
CLIENT = "is answered"
SYMPTOM = "/report/sales"
CONTROL = "/health"


class Pool:
    def __init__(self, size):
        self.idle = asyncio.Queue()
        for number in range(size):
            self.idle.put_nowait(number)

    async def borrow(self):
        return await self.idle.get()  # <-- queue

    def give_back(self, connection):
        self.idle.put_nowait(connection)


@asynccontextmanager
async def lifespan(app):
    app.state.pool = Pool(2)
    yield


app = FastAPI(lifespan=lifespan)
reports = {"sales": 7}


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/report/{name}")
async def report(name: str):
    connection = await app.state.pool.borrow()
    if name not in reports:
        raise HTTPException(404)
    app.state.pool.give_back(connection)
    return {"rows": reports[name]}
