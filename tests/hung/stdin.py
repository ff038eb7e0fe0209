"""A question asked on the terminal, in a coroutine.

`input()` was left in from a trial. The server's standard input is a terminal at which nobody sits.
"""

import os

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "stdin"
TRIGGER = ("/migrate",)
SYMPTOM = "/health"

app = FastAPI()
terminal, keyboard = os.openpty()
os.dup2(keyboard, 0)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/migrate")
async def migrate():
    answer = input("Migrate the production database? [y/N] ")  # <-- stdin
    return {"migrated": answer == "y"}
