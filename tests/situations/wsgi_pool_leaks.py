"""A threaded server whose pool has no connection left: who took them kept them, and no thread is at work with one."""

from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "connection-pool"
TRIGGER = ("/keep", "/keep", "/order", "/order")
SYMPTOM = "/order"
CONTROL = "/health"

engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=2, max_overflow=0, pool_timeout=86_400)
kept = []


def read_order():
    with engine.connect() as connection:  # <-- connection-pool
        return connection.execute(text("select 1")).scalar()


def app(environ, start_response):
    if environ["PATH_INFO"] == "/keep":
        kept.append(engine.connect())
    if environ["PATH_INFO"] == "/order":
        read_order()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, Server)
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
