"""A synchronous server with a thread a request: one waits for a peer inside of a lock, and two before that lock.

The lock is taken in a helper, so no line of the one that is inside names it.
"""

import socket
import threading
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "socket"
TRIGGER = ("/load", "/rates", "/rates")
SYMPTOM = "/rates"
CONTROL = "/health"

bank = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
LOCKS = {"rates": threading.Lock()}


@contextmanager
def locked(name):
    LOCKS[name].acquire()
    try:
        yield
    finally:
        LOCKS[name].release()


def load():
    with locked("rates"), socket.create_connection(bank.getsockname()) as line:
        line.recv(64)  # <-- socket


def rates():
    with locked("rates"):
        return 3


def app(environ, start_response):
    {"/load": load, "/rates": rates}.get(environ["PATH_INFO"], str)()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, Server)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
