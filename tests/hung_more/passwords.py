"""A password checked in a coroutine.

A good password hash takes long on purpose. `hashlib.pbkdf2_hmac` is one C call that gives the GIL away meanwhile:
py-spy calls the thread idle, and only the kernel says that it computes.
"""

import hashlib

from fastapi import FastAPI

STATE = "loop-busy"
CAUSE = "cpu-bound"
TRIGGER = ("/login?password=tea",)
SYMPTOM = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


def hashed(password):
    return hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 2_000_000_000)  # <-- cpu-bound


@app.get("/login")
async def login(password: str):
    return {"welcome": hashed(password) == b""}
