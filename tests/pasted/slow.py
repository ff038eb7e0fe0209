"""A WSGI application that waits for an answer which never comes."""
import threading
import time

GATE = threading.Event()


def price(item):
    time.sleep(3600)


def quote(item):
    return price(item) * 2


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/quote":
        return [str(quote("tea")).encode()]
    return [b"ok"]
