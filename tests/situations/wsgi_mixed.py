"""A healthy server with a thread a request: one request waits for a peer, and another goes on."""

import itertools
import socket
import time
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

SERVER = "script"
STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/quote", "/ticks")
CONTROL = "/health"

broker = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


def quote():
    socket.create_connection(broker.getsockname()).recv(1)


def ticks():
    for number in itertools.count():
        time.sleep(0.02)
        if number % 3:
            time.sleep(0.02)


def app(environ, start_response):
    {"/quote": quote, "/ticks": ticks}.get(environ["PATH_INFO"], str)()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, Server)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
