"""A synchronous server with a thread a request: one works inside of a lock, step by step, and two wait for it."""

import threading
import time
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

SERVER = "script"
STATE = "inconclusive"
CAUSE = "sleep"
TRIGGER = ("/rates",)
COUNT = 3
NEEDS_KERNEL = True
CONTROL = "/health"

rates_lock = threading.Lock()


def rates():
    with rates_lock:
        while True:
            time.sleep(0.02)  # <-- sleep
            time.sleep(0.02)  # <-- sleep
            time.sleep(0.02)  # <-- sleep


def app(environ, start_response):
    if environ["PATH_INFO"] == "/rates":
        rates()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, Server)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
