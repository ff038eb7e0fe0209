"""A healthy server with a thread a request: each streams an event now and then, and sleeps in between."""

import time
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

SERVER = "script"
STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/stream",)
COUNT = 4
CONTROL = "/health"


def ticks():
    while True:
        yield b"data: tick\n\n"
        time.sleep(0.8)


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    return ticks() if environ["PATH_INFO"] == "/stream" else [b"ok"]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, Server)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
