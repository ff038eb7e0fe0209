"""A synchronous server with one thread, and clients that leave it no pause: each page takes a while, none hangs."""

import time
from wsgiref.simple_server import WSGIRequestHandler, make_server

SERVER = "script"
STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/page",)
CLIENT = "is answered"
CONTROL = "/page"
LOAD = ("/page", "/page")


def app(environ, start_response):
    time.sleep(0.06)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Quiet(WSGIRequestHandler):
    def log_message(self, *words):
        pass


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
