"""A request waits for a group of tasks, and one of them for an answer: its sister has answered all but the last."""

import asyncio

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "other"
NEEDS_KERNEL = True
TRIGGER = ("/votes",)
CONTROL = "/health"

app, asked = FastAPI(), {}


@app.get("/health")
async def health():
    return {"status": "ok"}


async def ask(voter):
    asked[voter] = asyncio.get_running_loop().create_future()
    return await asked[voter]  # <-- other


async def answer(voters):
    await asyncio.sleep(0.1)
    for voter in voters[:-1]:
        asked.pop(voter).set_result("yes")


@app.get("/votes")
async def votes():
    voters = ("ann", "bob", "cid")
    async with asyncio.TaskGroup() as group:
        asks = [group.create_task(ask(voter)) for voter in voters]
        group.create_task(answer(voters))
    return [one.result() for one in asks]
