"""A threaded server before Python 3.12: `cached_property` has one lock for a whole class, and one object's waits."""

import socket
from functools import cached_property
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "socket"
TRIGGER = ("/slow", "/other", "/third")
SYMPTOM = "/other"
CONTROL = "/health"

bank = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


class Branch:
    def __init__(self, name):
        self.name = name

    @cached_property
    def limits(self):
        if self.name != "slow":
            return {}
        with socket.create_connection(bank.getsockname()) as line:
            return line.recv(64)  # <-- socket


def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    if name != "health":
        str(Branch(name).limits)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, Server)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
