"""A request asks a peer over asyncio's streams, without a timeout, and the peer never says a word."""

import asyncio
import socket

from aiohttp import web

SERVER = "script"
STATE = "tasks-waiting"
CAUSE = "socket"
NEEDS = "aiohttp"
NEEDS_KERNEL = True
TRIGGER = ("/meter",)
COUNT = 2
CONTROL = "/health"

meter = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


async def health(request):
    return web.Response(text="ok")


async def value(request):
    reader, writer = await asyncio.open_connection(*meter.getsockname())
    writer.write(b"READ\n")
    return web.Response(body=await reader.readline())  # <-- socket


if __name__ == "__main__":
    app = web.Application()
    app.add_routes([web.get("/health", health), web.get("/meter", value)])
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"Serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    web.run_app(app, sock=listener, print=None)
