"""A breakpoint that was left in.

The debugger stops the event loop's thread at a prompt, and nobody sits at the server's terminal.
"""

import os

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "debugger"
TRIGGER = ("/checkout",)
SYMPTOM = "/health"

app = FastAPI()
terminal, keyboard = os.openpty()
os.dup2(keyboard, 0)


@app.get("/health")
async def health():
    return {"status": "ok"}


def total(basket):
    breakpoint()  # <-- debugger
    return sum(basket)  # <-- debugger


@app.get("/checkout")
async def checkout():
    return {"total": total([3, 4])}
