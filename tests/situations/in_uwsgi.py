"""uWSGI calls the application from C: its threads have no frame of a server below the application's.

Two processes of two threads, each in a request that waits for a peer without a timeout. In uWSGI's workers py-spy finds
the number of the thread that was forked, which is the master's.
"""

import os
import socket
import sys

STATE = "sync-worker-blocked"
CAUSE = "socket"
TRIGGER = ("/hang",)
COUNT = 4
SYMPTOM = "/health"
SERVER = "script"
NEEDS = "uwsgidecorators"

quiet = socket.socket()
quiet.bind(("127.0.0.1", 0))
quiet.listen(100)
if "SERVED_AT" in os.environ:
    print(f"Serving on {os.environ['SERVED_AT']}", flush=True)  # in one piece: others write to this log too


def ask_for_stock():
    with socket.create_connection(quiet.getsockname()) as peer:
        return peer.recv(100)  # <-- socket


def application(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        ask_for_stock()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["uwsgi", "--http-socket", f"127.0.0.1:{port}", "--wsgi-file", __file__, "--master"]
    os.environ["SERVED_AT"] = f"http://127.0.0.1:{port}"
    command += ["--processes", *sys.argv[1:2]] if sys.argv[1:] else ["--processes", "2", "--threads", "2"]
    os.execv(os.path.join(os.path.dirname(sys.executable), "uwsgi"), command)
