"""A healthy server under load: nearly all of its time goes into one route, whose requests are short."""

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
LOAD = ("/totals", "/totals", "/totals")
CONTROL = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/totals")
async def totals():
    total = 0
    for number in range(1_000_000):
        total += number % 7
    return total
