"""A synchronous server with a thread a request, and all of them sleep for a long time: slow ones, or streams."""

import time
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

SERVER = "script"
STATE = "inconclusive"
CAUSE = "sleep"
TRIGGER = ("/poll",)
COUNT = 3
CONTROL = "/health"


def app(environ, start_response):
    if environ["PATH_INFO"] == "/poll":
        time.sleep(3_600)  # <-- sleep
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, Server)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
