"""Two requests move money between the same two accounts, in opposite directions: a function is given both locks.

It takes the first and then the second, whichever they are. No name tells one from the other.
"""

import threading
import time
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

SERVER = "script"
STATE = "deadlock"
CAUSE = "lock"
TRIGGER = ("/to", "/fro")
SYMPTOM = "/to"
CONTROL = "/health"
NEEDS_KERNEL = True

red, blue = threading.Lock(), threading.Lock()


def move(source, target):
    with source:
        time.sleep(0.5)
        with target:  # <-- lock
            return "moved"


def app(environ, start_response):
    pairs = {"/to": (red, blue), "/fro": (blue, red)}
    if environ["PATH_INFO"] in pairs:
        move(*pairs[environ["PATH_INFO"]])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *words):
        pass


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, Server, Quiet)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
