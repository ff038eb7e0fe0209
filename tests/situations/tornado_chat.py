"""A healthy chat by Tornado: long polls wait for a condition, and a later request brings the message."""

import asyncio
import socket

import tornado.httpserver
import tornado.locks
import tornado.web

SERVER = "script"
STATE = "healthy"
CAUSE = "none"
NEEDS = "tornado"
TRIGGER = ("/updates",)
COUNT = 3
CONTROL = "/health"


class Buffer:
    def __init__(self):
        self.changed, self.messages = tornado.locks.Condition(), []

    def add(self, text):
        self.messages.append(text)
        self.changed.notify_all()


buffer = Buffer()


class Health(tornado.web.RequestHandler):
    def get(self):
        self.write("ok")


class Message(tornado.web.RequestHandler):
    def post(self):
        buffer.add(self.get_argument("text"))


class Updates(tornado.web.RequestHandler):
    async def get(self):
        while not buffer.messages:
            self.waiting = buffer.changed.wait()
            await self.waiting
        self.write({"messages": buffer.messages})


async def main(listener):
    app = tornado.web.Application([("/health", Health), ("/message", Message), ("/updates", Updates)])
    tornado.httpserver.HTTPServer(app).add_sockets([listener])
    await asyncio.Event().wait()


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    print(f"Serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    asyncio.run(main(listener))
