"""A healthy server with two hundred subscribers, each of whose streams waits for the next piece of news.

There is none at the moment. Every stream waits in its own queue, the publisher waits in its own, and a reporter
sleeps: hundreds of tasks wait, and nothing is wrong with any of them.
"""

import asyncio
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/news",)
COUNT = 200
CONTROL = "/health"

subscribers = set()


async def publish(desk):
    while True:
        item = await desk.get()
        for queue in subscribers:
            queue.put_nowait(item)


async def report(desk):
    while True:
        await asyncio.sleep(3600)
        desk.put_nowait("the hourly news")


@asynccontextmanager
async def lifespan(app):
    desk = asyncio.Queue()
    app.state.tasks = [asyncio.create_task(publish(desk)), asyncio.create_task(report(desk))]
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/news")
async def news():
    async def stream():
        queue = asyncio.Queue()
        subscribers.add(queue)
        try:
            yield "data: welcome\n\n"
            while True:
                yield f"data: {await queue.get()}\n\n"
        finally:
            subscribers.discard(queue)

    return StreamingResponse(stream(), media_type="text/event-stream")
