"""Tornado's lock is granted to a request that has given up already, and so nobody releases it.

The wait itself was shielded from its time-out: it goes on in a task of its own, and takes the lock later.
"""

import asyncio
import datetime
import socket

import tornado.httpserver
import tornado.locks
import tornado.web
from tornado import gen

SERVER = "script"
STATE = "tasks-waiting"
CAUSE = "lock"
NEEDS = "tornado"
NEEDS_KERNEL = True
TRIGGER = ("/post", "/balance")
COUNT = 2
CONTROL = "/health"

ledger = tornado.locks.Lock()


class Health(tornado.web.RequestHandler):
    def get(self):
        self.write("ok")


class Post(tornado.web.RequestHandler):
    async def get(self):
        try:
            await gen.with_timeout(datetime.timedelta(seconds=0.2), asyncio.ensure_future(self.take()))
        except gen.TimeoutError:
            self.set_status(503)
            return
        await asyncio.sleep(0.4)
        ledger.release()

    async def take(self):
        await asyncio.shield(asyncio.ensure_future(self.grab()))

    async def grab(self):
        await ledger.acquire()


class Balance(tornado.web.RequestHandler):
    async def get(self):
        await asyncio.sleep(0.5)  # the lock is lost by then
        async with ledger:  # <-- lock
            self.write("balance")


async def main(listener):
    app = tornado.web.Application([("/health", Health), ("/post", Post), ("/balance", Balance)])
    tornado.httpserver.HTTPServer(app).add_sockets([listener])
    await asyncio.Event().wait()


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    print(f"Serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    asyncio.run(main(listener))
