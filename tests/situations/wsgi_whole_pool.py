"""A server that hands each request to a pool of two threads: both wait for a peer that never answers.

Nobody waits for a thread yet: whoever asks next will.
"""

import socket
from concurrent.futures import ThreadPoolExecutor
from wsgiref.simple_server import WSGIServer, make_server

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "socket"
TRIGGER = ("/quote",)
COUNT = 2

pool = ThreadPoolExecutor(2)
broker = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


def app(environ, start_response):
    if environ["PATH_INFO"] == "/quote":
        socket.create_connection(broker.getsockname()).recv(1)  # <-- socket
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Server(WSGIServer):
    def process_request(self, request, client_address):
        pool.submit(self.answer, request, client_address)

    def answer(self, request, client_address):
        self.finish_request(request, client_address)
        self.shutdown_request(request)


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, Server)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
