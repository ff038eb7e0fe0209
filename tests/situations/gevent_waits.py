"""gevent's WSGI server, and a greenlet that waits for an event as it should: the others are served meanwhile.

What a greenlet waits for that does not run cannot be read, so nobody can say whether it is well.
"""

from gevent.event import Event
from gevent.pywsgi import WSGIServer

SERVER = "script"
STATE = "inconclusive"
CAUSE = "other"
TRIGGER = ("/updates",)
CONTROL = "/health"
NEEDS = "gevent"

changed = Event()


def app(environ, start_response):
    if environ["PATH_INFO"] == "/updates":
        changed.wait()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


if __name__ == "__main__":
    server = WSGIServer(("127.0.0.1", 0), app, log=None)
    server.start()
    print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
