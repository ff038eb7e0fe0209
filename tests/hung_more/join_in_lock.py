"""The event loop joins a thread while it holds the lock that this thread needs to end."""

import threading

from fastapi import FastAPI

STATE = "deadlock"
CAUSE = "thread-join"
STACKS = "loop-blocked"
TRIGGER = ("/reload",)
SYMPTOM = "/health"

app = FastAPI()
settings_lock = threading.Lock()
settings = {}


def load():
    with settings_lock:  # <-- thread-join
        settings["colour"] = "green"


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/reload")
async def reload():
    with settings_lock:
        settings.clear()
        loader = threading.Thread(target=load, name="settings-loader", daemon=True)
        loader.start()
        loader.join()  # <-- thread-join
    return settings
