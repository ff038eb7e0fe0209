"""A healthy server whose requests wait for other requests.

Each of these waits has no end in any task that runs now: the message is brought by a later request, the seat is given
back by one, the tea is ready when a job that sleeps for an hour has called a function. Only the code shows that.
"""

import asyncio
from contextlib import asynccontextmanager

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/message", "/sit", "/sit", "/table", "/tea", "/play")
CONTROL = "/health"


class Kitchen:
    def __init__(self):
        self.ready = asyncio.Event()

    async def serve(self):
        self.ready.set()


async def every_hour(kitchen):
    while True:
        await asyncio.sleep(3600)
        await kitchen.serve()


@asynccontextmanager
async def lifespan(app):
    app.state.box, app.state.seats = asyncio.Queue(), asyncio.Semaphore(1)
    app.state.kitchen, app.state.players = Kitchen(), []
    app.state.job = asyncio.create_task(every_hour(app.state.kitchen))
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/message")
async def message():
    return {"message": await app.state.box.get()}


@app.get("/send")
async def send(text: str):
    app.state.box.put_nowait(text)


@app.get("/sit")
async def sit():
    await app.state.seats.acquire()
    return {"seated": True}


@app.get("/table")
async def table():
    async with app.state.seats:
        return {"seated": True}


@app.get("/leave")
async def leave():
    app.state.seats.release()


@app.get("/tea")
async def tea():
    await app.state.kitchen.ready.wait()
    return {"tea": "hot"}


@app.get("/play")
async def play():
    if app.state.players:
        app.state.players.pop().set()
        return {"you": "second"}
    started = asyncio.Event()
    app.state.players.append(started)
    await started.wait()
    return {"you": "first"}
