"""A synchronous server whose only thread is inside of one request for ever: it polls for what never comes."""

import time
from wsgiref.simple_server import make_server

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "sleep"
TRIGGER = ("/wait",)
SYMPTOM = "/health"


def wait():
    while True:
        time.sleep(0.06)  # <-- sleep
        time.sleep(0.05)  # <-- sleep


def app(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        wait()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
