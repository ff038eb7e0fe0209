"""A synchronous server with a thread a request: the first sleeps in a retry, and holds the lock that all others want.

That sleep is the answer, and no victim's line. Stacks without their sources show the victims' line alone."""

import threading
import time
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "sleep"
VICTIMS = ("session",)
TRIGGER = ("/login", "/session", "/session", "/session")
SYMPTOM = "/session"
CONTROL = "/health"

sessions_lock = threading.Lock()


def login():
    with sessions_lock:
        time.sleep(86_400)  # <-- sleep


def session():
    with sessions_lock:
        return None


def app(environ, start_response):
    {"/login": login, "/session": session}.get(environ["PATH_INFO"], str)()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *words):
        pass


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, Server, Quiet)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
