"""Every connection of aiohttp's client is held by a response that nobody reads, so the next request waits for one."""

import asyncio
import socket

import aiohttp
from aiohttp import web

SERVER = "script"
STATE = "tasks-waiting"
CAUSE = "connection-pool"
NEEDS = "aiohttp"
NEEDS_KERNEL = True
TRIGGER = ("/peek",)
COUNT = 4
CONTROL = "/health"


async def health(request):
    return web.Response(text="ok")


async def endless(request):
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"first")
    await asyncio.sleep(3600)


async def peek(request):
    response = await request.app["client"].get(request.app["url"])  # <-- connection-pool
    request.app["open"].append(response)
    return web.Response(body=await response.content.readany())


async def client(app):
    connector, timeout = aiohttp.TCPConnector(limit=2), aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as app["client"]:
        yield


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    app = web.Application()
    app["open"], app["url"] = [], f"http://127.0.0.1:{listener.getsockname()[1]}/endless"
    app.cleanup_ctx.append(client)
    app.add_routes([web.get("/health", health), web.get("/endless", endless), web.get("/peek", peek)])
    print(f"Serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    web.run_app(app, sock=listener, print=None)
