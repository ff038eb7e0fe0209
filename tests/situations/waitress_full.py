"""waitress starts four threads once, and all of them wait for a peer that never answers."""

import socket

import waitress

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "socket"
NEEDS = "waitress"
TRIGGER = ("/quote",)
COUNT = 4
SYMPTOM = "/health"

broker = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


def app(environ, start_response):
    if environ["PATH_INFO"] == "/quote":
        socket.create_connection(broker.getsockname()).recv(1)  # <-- socket
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


if __name__ == "__main__":
    server = waitress.create_server(app, host="127.0.0.1", port=0)
    print(f"Serving on http://127.0.0.1:{server.effective_port}", flush=True)
    server.run()
