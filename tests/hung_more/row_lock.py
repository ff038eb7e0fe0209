"""A row that somebody else has locked, in a real PostgreSQL.

The nightly job changed a row and never ended its transaction. The coroutine changes the same row, and psycopg
waits for the answer on the event loop's thread. Nothing in this process holds what it waits for.
"""

import os

import psycopg
from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "database"
NEEDS = "postgresql"
TRIGGER = ("/stock/tea/take",)
SYMPTOM = "/health"

app = FastAPI()
shop = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
shop.execute("CREATE TABLE stock (item TEXT PRIMARY KEY, pieces INT)")
shop.execute("INSERT INTO stock VALUES ('tea', 3)")
nightly = psycopg.connect(os.environ["DATABASE_URL"])
nightly.execute("UPDATE stock SET pieces = 0 WHERE item = 'tea'")  # and no commit


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/stock/{item}/take")
async def take(item: str):
    with shop.cursor() as cursor:
        cursor.execute("UPDATE stock SET pieces = pieces - 1 WHERE item = %s", (item,))  # <-- database
    return {"item": item}
