"""A healthy server that asks a slow service by aiohttp's client, which gives up after five minutes by itself."""

import socket

import aiohttp
from aiohttp import web

SERVER = "script"
STATE = "healthy"
CAUSE = "none"
NEEDS = "aiohttp"
TRIGGER = ("/rate",)
COUNT = 2
CONTROL = "/health"

bank = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


async def health(request):
    return web.Response(text="ok")


async def rate(request):
    async with request.app["client"].get(f"http://127.0.0.1:{bank.getsockname()[1]}/") as response:
        return web.Response(text=await response.text())


async def client(app):
    async with aiohttp.ClientSession() as app["client"]:
        yield


if __name__ == "__main__":
    app = web.Application()
    app.cleanup_ctx.append(client)
    app.add_routes([web.get("/health", health), web.get("/rate", rate)])
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"Serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    web.run_app(app, sock=listener, print=None)
