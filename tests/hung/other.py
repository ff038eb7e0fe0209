"""A wait for a signal that nobody sends.

The coroutine waits for the operator's SIGUSR1 with `signal.sigwait`, a C call that no cause is named after:
the answer says what the kernel calls it, and where it stands.
"""

import signal

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "other"
TRIGGER = ("/rollout/approve",)
SYMPTOM = "/health"

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/rollout/approve")
async def approve():
    signal.sigwait([signal.SIGUSR1])  # <-- other
    return {"approved": True}
