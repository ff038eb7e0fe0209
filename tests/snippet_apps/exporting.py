"""A stream of rows from a database with a pool of 2: one session a stream (/bad), and page by page (/good)."""

from __future__ import annotations

import asyncio
import gc
import os

from anyio import lowlevel
from db_stream import rows, session
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

engine = create_async_engine(
    f"sqlite+aiosqlite:///{os.environ['DATABASE']}", pool_size=2, max_overflow=0, pool_timeout=0.5
)
Session = async_sessionmaker(engine, expire_on_commit=False)
gc.disable()  # it finds lost sessions, and gives their connections back: the test would pass or fail by its chance
app = FastAPI()
made, finished = [], []


@event.listens_for(engine.sync_engine, "connect")
def count(*connection) -> None:
    made.append(1)


async def page(db, last):
    query = (
        "with recursive n(i) as (select :next union all select i + 1 from n limit 3) select i from n where i < 100000"
    )
    return (await db.execute(text(query), {"next": last.i + 1 if last else 0})).all()


async def slowly(items):
    async for row in items:
        yield f"data: {row.i}\n\n"
        await asyncio.sleep(0.2)  # in place of a client that reads slowly


async def held():
    async with Session() as db:
        last = None
        while True:
            for last in await page(db, last):
                yield last


async def plain_finally():
    db = Session()
    try:
        await page(db, None)
        while True:
            yield "data: row\n\n"
            await asyncio.sleep(0.05)
    finally:
        await lowlevel.checkpoint()  # an audit line, a metric: anything that awaits
        await db.close()
        finished.append("bad")


async def shielded():
    async with session(Session) as db:
        await page(db, None)
        while True:
            yield "data: row\n\n"
            await asyncio.sleep(0.05)


def stream(items) -> StreamingResponse:
    return StreamingResponse(items, media_type="text/event-stream")


@app.get("/bad")
async def bad():
    return stream(slowly(held()))


@app.get("/good")
async def good():
    return stream(slowly(rows(Session, page)))


@app.get("/bad/finally")
async def bad_finally():
    return stream(plain_finally())


@app.get("/good/finally")
async def good_finally():
    return stream(shielded())


@app.get("/one")
async def one():
    async with Session() as db:
        return (await db.execute(text("select 1"))).scalar()


@app.get("/facts")
async def facts():
    return {"made": len(made), "lent": engine.pool.checkedout(), "finished": finished}
