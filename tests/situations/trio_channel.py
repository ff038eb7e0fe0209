"""Jobs are handed to a trio channel that nobody receives from: the tasks of trio cannot be read."""

import socket

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

SERVER = "script"
STATE = "inconclusive"
CAUSE = "other"
NEEDS = "hypercorn trio"
TRIGGER = ("/job",)
COUNT = 3
CONTROL = "/health"

inlet, outlet = trio.open_memory_channel(0)


async def job(request):
    await inlet.send("job")
    return PlainTextResponse("taken")


async def health(request):
    return PlainTextResponse("ok")


app = Starlette(routes=[Route("/job", job), Route("/health", health)])

if __name__ == "__main__":
    config, listener = Config(), socket.create_server(("127.0.0.1", 0))
    config.bind = [f"fd://{listener.fileno()}"]
    print(f"Serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    trio.run(serve, app, config)
