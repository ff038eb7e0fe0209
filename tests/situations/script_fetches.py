"""A script whose main thread waits for an answer: no event loop and no server runs here."""

import socket

import requests

SERVER = "script"
READY = True
STATE = "sync-worker-blocked"
CAUSE = "http-client"

silent = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


def fetch():
    print("READY", flush=True)
    requests.get(f"http://127.0.0.1:{silent.getsockname()[1]}/")  # <-- http-client


fetch()
