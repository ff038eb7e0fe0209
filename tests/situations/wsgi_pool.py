"""A server that hands each request to a pool of threads: two stream for ever, and no request waits for a thread."""

import time
from concurrent.futures import ThreadPoolExecutor
from wsgiref.simple_server import WSGIServer, make_server

SERVER = "script"
STATE = "healthy"
CAUSE = "none"
TRIGGER = ("/stream",)
COUNT = 2
CONTROL = "/health"

pool = ThreadPoolExecutor(4)


def app(environ, start_response):
    if environ["PATH_INFO"] == "/stream":
        time.sleep(3_600)
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
