"""Two requests move goods between the same two shelves, in opposite directions. Each shelf is taken by a helper.

No line that is left on a stack is inside of a lock, and both shelves' locks bear one name. From Python 3.14 on an RLock
itself says which thread has it.
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


class Shelf:
    def __init__(self):
        self.lock = threading.RLock()

    def take(self):
        self.lock.acquire()  # <-- lock

    def give_back(self):
        self.lock.release()


left, right = Shelf(), Shelf()


def move(source, target):
    source.take()
    time.sleep(0.5)
    target.take()
    target.give_back()
    source.give_back()


def app(environ, start_response):
    pairs = {"/to": (left, right), "/fro": (right, left)}
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
