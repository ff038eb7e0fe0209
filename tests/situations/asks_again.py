"""A healthy server whose request looks twice a second whether another request has approved it, without an end."""

import asyncio

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/goods",)
CONTROL = "/health"

app, approved = FastAPI(), set()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/goods")
async def goods():
    while "goods" not in approved:
        await asyncio.sleep(0.5)
    return {"approved": True}


@app.get("/approve")
async def approve():
    approved.add("goods")
