r"""A pattern that backtracks.

`(\w+\s?)*` can split the same words in very many ways, and tries them all before it says that a name with a
stray sign at its end does not match. Each further letter doubles the time. The matching is written in C and
holds the GIL, so no other thread runs either.
"""

import re

from fastapi import FastAPI

STATE = "loop-busy"
CAUSE = "regex"
TRIGGER = ("/customers/check?name=Annabella%20Maria%20Theresia%20von%20Hohenstein%20zu%20Weissenburg!",)
SYMPTOM = "/health"

FULL_NAME = re.compile(r"^(\w+\s?)*$")

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/customers/check")
async def check(name: str):
    return {"valid": bool(FULL_NAME.match(name))}  # <-- regex
