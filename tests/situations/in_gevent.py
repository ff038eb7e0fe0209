"""gevent's WSGI server, and a call that gevent has not patched: all greenlets share the thread that waits in it."""

import socket

from gevent.pywsgi import WSGIServer

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "socket"
TRIGGER = ("/account",)
SYMPTOM = "/health"
NEEDS = "gevent"

bank = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


def ask_bank():
    with socket.create_connection(bank.getsockname()) as line:
        return line.recv(64)  # <-- socket


def app(environ, start_response):
    if environ["PATH_INFO"] == "/account":
        ask_bank()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


if __name__ == "__main__":
    server = WSGIServer(("127.0.0.1", 0), app, log=None)
    server.start()
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
