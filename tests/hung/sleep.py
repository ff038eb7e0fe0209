"""A retry that sleeps in a coroutine.

The partner says `Retry-After: 3600`, the code obeys, and `time.sleep` holds the event loop's thread for all
of it. The stack ends in the user's own line: py-spy has no frame for `time.sleep`.
"""

import time

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "sleep"
TRIGGER = ("/orders/17/confirm",)
SYMPTOM = "/health"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


class Partner:
    """The client of an order service that throttles us."""

    def post(self, order):
        return {"status": 429, "retry_after": 3600}

    def confirm(self, order):
        answer = self.post(order)
        while answer["status"] == 429:
            time.sleep(answer["retry_after"])  # <-- sleep
            answer = self.post(order)
        return answer


@app.get("/orders/{order}/confirm")
async def confirm(order: int):
    return Partner().confirm(order)
