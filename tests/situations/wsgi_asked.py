"""A healthy synchronous server with one thread that is asked all the time, and answers each request soon."""

import time
from wsgiref.simple_server import WSGIServer, make_server

SERVER = "script"
STATE = "healthy"
CAUSE = "none"
LOAD = ("/page",)
CONTROL = "/health"


def page():
    time.sleep(0.01)
    time.sleep(0.01)


def app(environ, start_response):
    if environ["PATH_INFO"] == "/page":
        page()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Server(WSGIServer):
    def service_actions(self):
        time.sleep(0.002)  # what it does between two requests


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, Server)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
