"""A healthy server under load: its loop is hardly ever idle, and goes from one short request to the next."""

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
LOAD = ("/a", "/b", "/c", "/d")
CONTROL = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


def work():
    return sum(range(150_000))


@app.get("/a")
async def a():
    return work()


@app.get("/b")
async def b():
    return work()


@app.get("/c")
async def c():
    return work()


@app.get("/d")
async def d():
    return work()
