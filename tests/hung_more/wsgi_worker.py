"""A synchronous server with one worker, and that one waits for another service.

There is no event loop: the only thread accepts a request, runs it, and accepts the next. This one never ends.
"""

import socket
from wsgiref.simple_server import WSGIRequestHandler, make_server

import requests

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "http-client"
TRIGGER = ("/quote",)
SYMPTOM = "/health"

broker = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


def app(environ, start_response):
    if environ["PATH_INFO"] == "/quote":
        requests.get(f"http://127.0.0.1:{broker.getsockname()[1]}/quote")  # <-- http-client
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Quiet(WSGIRequestHandler):
    def log_message(self, *words):
        pass


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
