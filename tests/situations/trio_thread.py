"""A thread of trio's, which a request has started, waits for a peer; what the requests wait for cannot be read."""

import socket

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

SERVER = "script"
STATE = "inconclusive"
CAUSE = "socket"
NEEDS = "hypercorn trio"
TRIGGER = ("/scale",)
COUNT = 2
CONTROL = "/health"

ours, theirs = socket.socketpair()  # nobody ever answers
one_at_a_time = trio.CapacityLimiter(1)


def read_scale():
    return ours.recv(64)  # <-- socket


async def weigh(request):
    await trio.to_thread.run_sync(read_scale, limiter=one_at_a_time)
    return PlainTextResponse("weighed")


async def health(request):
    return PlainTextResponse("ok")


app = Starlette(routes=[Route("/scale", weigh), Route("/health", health)])

if __name__ == "__main__":
    config, listener = Config(), socket.create_server(("127.0.0.1", 0))
    config.bind = [f"fd://{listener.fileno()}"]
    print(f"Serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    trio.run(serve, app, config)
