"""A threaded server whose first request imports a plug-in that asks a silent peer at import; two more import it too."""

import socket
import sys
import tempfile
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "socket"
TRIGGER = ("/quote",)
COUNT = 3
SYMPTOM = "/rate"
CONTROL = "/health"

bank = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
plugins = Path(tempfile.mkdtemp())
(plugins / "plugin_of_bank.py").write_text("import __main__\n\nRATE = __main__.ask_bank()\n", encoding="utf-8")
sys.path.insert(0, str(plugins))


def ask_bank():
    with socket.create_connection(bank.getsockname()) as line:
        return line.recv(64)  # <-- socket


def quote():
    import plugin_of_bank

    return plugin_of_bank.RATE


def app(environ, start_response):
    begun = "plugin_of_bank" in sys.modules
    if environ["PATH_INFO"] == "/quote" or (environ["PATH_INFO"] == "/rate" and begun):
        quote()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, Server)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
