"""A Tornado server whose client may have one request under way: that one is asked in vain, and the others queue."""

import asyncio
import socket

from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

SERVER = "script"
STATE = "tasks-waiting"
CAUSE = "connection-pool"
NEEDS = "tornado"
NEEDS_KERNEL = True
TRIGGER = ("/weather",)
COUNT = 3
CONTROL = "/health"

silent = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
URL = f"http://127.0.0.1:{silent.getsockname()[1]}/"


class Health(RequestHandler):
    def get(self):
        self.write("ok")


class Weather(RequestHandler):
    async def get(self):
        found = await client.fetch(URL, request_timeout=0, connect_timeout=0)  # <-- connection-pool
        self.write(found.body)


async def main():
    global client
    client = AsyncHTTPClient(force_instance=True, max_clients=1)
    sockets = bind_sockets(0, "127.0.0.1")
    HTTPServer(Application([("/health", Health), ("/weather", Weather)])).add_sockets(sockets)
    print(f"Serving on http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
