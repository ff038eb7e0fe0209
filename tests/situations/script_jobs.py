"""A worker of one's own: its main thread waits for ever on purpose, and the thread that works waits for an answer."""

import queue
import socket
import threading

import requests

SERVER = "script"
READY = True
STATE = "sync-worker-blocked"
CAUSE = "http-client"

silent = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
jobs = queue.Queue()


def work():
    while True:
        jobs.get()()


def job():
    print("READY", flush=True)
    requests.get(f"http://127.0.0.1:{silent.getsockname()[1]}/")  # <-- http-client


threading.Thread(target=work, daemon=True).start()
jobs.put(job)
threading.Event().wait()
