"""A request that awaits a child process, in the library's code: it may be slow, and it may never end."""

from asyncio import create_subprocess_exec

from fastapi import FastAPI

STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/convert",)
COUNT = 3
CONTROL = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/convert")
async def convert():
    child = await create_subprocess_exec("sleep", "60")
    return {"status": await child.wait()}
