"""granian calls a WSGI application in a few threads that Rust starts: all of them wait for a silent peer."""

import os
import socket
import sys

STATE = "sync-worker-blocked"
CAUSE = "socket"
TRIGGER = ("/account",)
COUNT = 3
SYMPTOM = "/health"
SERVER = "script"
NEEDS = "granian"

quiet = socket.socket()
quiet.bind(("127.0.0.1", 0))
quiet.listen(100)
if "SERVED_AT" in os.environ:
    print(f"Serving on {os.environ['SERVED_AT']}", flush=True)  # in one piece: others write to this log too


def ask_bank():
    with socket.create_connection(quiet.getsockname()) as link:
        return link.recv(64)  # <-- socket


def app(environ, start_response):
    if environ["PATH_INFO"] == "/account":
        ask_bank()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["granian", "--interface", "wsgi", "--port", str(port), "--blocking-threads", "2", "in_granian:app"]
    os.environ["SERVED_AT"] = f"http://127.0.0.1:{port}"
    os.execv(sys.executable, [sys.executable, "-m", *command])
