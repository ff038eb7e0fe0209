"""A synchronous server with a thread a request, and all of them wait for a peer that never answers."""

import socket
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "socket"
TRIGGER = ("/quote",)
COUNT = 4
CONTROL = "/health"

broker = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


def app(environ, start_response):
    if environ["PATH_INFO"] == "/quote":
        socket.create_connection(broker.getsockname()).recv(1)  # <-- socket
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, Server)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
