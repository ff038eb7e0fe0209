"""A pool of threads is warmed before gunicorn forks its worker (--preload): the worker has none of its threads."""

import asyncio
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI
from gunicorn.app.base import BaseApplication

SERVER = "script"
STATE = "tasks-waiting"
CAUSE = "fork"
NEEDS = "gunicorn uvicorn_worker"
NEEDS_KERNEL = True
TRIGGER = ("/stock",)
COUNT = 2
CONTROL = "/health"

app, threads = FastAPI(), ThreadPoolExecutor(2)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/stock")
async def stock():
    return await asyncio.get_running_loop().run_in_executor(threads, len, "tea")  # <-- fork


class Preloaded(BaseApplication):
    def load_config(self):
        listener = socket.create_server(("127.0.0.1", 0))
        os.set_inheritable(listener.fileno(), True)
        self.cfg.set("bind", f"fd://{listener.fileno()}")
        self.cfg.set("preload_app", True)
        self.cfg.set("worker_class", "uvicorn_worker.UvicornWorker")
        self.listener = listener

    def load(self):
        list(threads.map(time.sleep, [0.05, 0.05]))
        return app


if __name__ == "__main__":
    server = Preloaded()
    print(f"Serving on http://127.0.0.1:{server.listener.getsockname()[1]}", flush=True)
    server.run()
