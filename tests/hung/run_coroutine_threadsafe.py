"""A coroutine handed to the loop that waits for it.

`run_coroutine_threadsafe` is for other threads. Called on the loop's own thread, `.result()` blocks the only
thread that could run the coroutine: it never ends.
"""

import asyncio

from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "run-coroutine-threadsafe"
TRIGGER = ("/profile",)
SYMPTOM = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


async def load_profile():
    return {"name": "Ada"}


def profile_of_user():
    future = asyncio.run_coroutine_threadsafe(load_profile(), asyncio.get_running_loop())
    return future.result()  # <-- run-coroutine-threadsafe


@app.get("/profile")
async def profile():
    return profile_of_user()
