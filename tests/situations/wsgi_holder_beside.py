"""A synchronous server with a thread a request: one waits for a peer in a lock, two wait for it, and one goes on."""

import socket
import threading
import time
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "socket"
TRIGGER = ("/feed", "/load", "/rates", "/rates")
SYMPTOM = "/rates"
CONTROL = "/health"

bank = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
rates_lock = threading.Lock()


def load():
    with rates_lock, socket.create_connection(bank.getsockname()) as line:
        line.recv(64)  # <-- socket


def rates():
    with rates_lock:
        return 3


def app(environ, start_response):
    {"/load": load, "/rates": rates}.get(environ["PATH_INFO"], str)()
    while environ["PATH_INFO"] == "/feed":
        time.sleep(0.02)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, Server)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
