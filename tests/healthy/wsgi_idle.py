"""A synchronous server without work, beside threads that wait on purpose.

A consumer stands in `queue.get()`, a scheduler in `Event.wait()`, and the main thread in the server's own `select`.
"""

import queue
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

SERVER = "script"
STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/health",)
CLIENT = "is answered"
CONTROL = "/health"

jobs = queue.Queue()
stopping = threading.Event()


def consume():
    while True:
        jobs.get()()


def schedule():
    while not stopping.wait(3600):
        jobs.put(print)


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *words):
        pass


if __name__ == "__main__":
    for task in (consume, schedule):
        threading.Thread(target=task, name=task.__name__, daemon=True).start()
    server = make_server("127.0.0.1", 0, app, Server, Quiet)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
