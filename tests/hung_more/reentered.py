"""A coroutine enters an asyncio.Lock that it is inside of already.

`transfer` takes the ledger's lock and calls `balance`, which takes it too. asyncio's lock is not re-entrant, so the
task waits for itself. The event loop is idle; no thread is stuck; every request that needs the ledger queues up.
"""

import asyncio

from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "lock"
TRIGGER = ("/transfer",)
SYMPTOM = "/balance"
CONTROL = "/health"

app = FastAPI()


class Ledger:
    def __init__(self):
        self.accounts = {"tea": 3}
        self.lock = None

    async def balance(self):
        self.lock = self.lock or asyncio.Lock()  # Python 3.9 binds it to the loop that is there when it is made
        async with self.lock:  # <-- lock
            return sum(self.accounts.values())

    async def transfer(self):
        self.lock = self.lock or asyncio.Lock()
        async with self.lock:
            return await self.balance()


ledger = Ledger()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/balance")
async def balance():
    return {"balance": await ledger.balance()}


@app.get("/transfer")
async def transfer():
    return {"balance": await ledger.transfer()}
