"""A write to SQLite while another connection holds its lock.

The nightly import began its transaction and never ended it. The coroutine's INSERT waits for that lock on the
event loop's thread: sqlite3 is a C driver that sleeps and asks again, as often as its `timeout` allows.
"""

import sqlite3
import tempfile
from pathlib import Path

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "database"
TRIGGER = ("/orders/new",)
SYMPTOM = "/health"

app = FastAPI()
file = Path(tempfile.gettempdir()) / "orders.db"
orders = sqlite3.connect(file, timeout=86_400)
orders.execute("CREATE TABLE IF NOT EXISTS orders (item TEXT)")
nightly = sqlite3.connect(file, isolation_level=None)
nightly.execute("BEGIN IMMEDIATE")


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/orders/new")
async def new():
    orders.execute("INSERT INTO orders VALUES (?)", ("tea",))  # <-- database
    orders.commit()
    return {"ordered": "tea"}
