"""Daphne serves a consumer of Channels that receives from a channel to which nobody sends."""

import socket

from channels.consumer import AsyncConsumer
from channels.layers import InMemoryChannelLayer
from channels.routing import ProtocolTypeRouter
from daphne.server import Server
from django.conf import settings
from twisted.internet import reactor

SERVER = "script"
STATE = "tasks-waiting"
CAUSE = "other"
NEEDS = "channels daphne"
NEEDS_KERNEL = True
TRIGGER = ("/parcel",)
COUNT = 2
CONTROL = "/health"

settings.configure(CHANNEL_LAYERS={})
layer = InMemoryChannelLayer()


class Parcels(AsyncConsumer):
    async def http_request(self, event):
        body = await self.next_parcel() if self.scope["path"] == "/parcel" else "ok"
        await self.send({"type": "http.response.start", "status": 200, "headers": []})
        await self.send({"type": "http.response.body", "body": body.encode()})

    async def next_parcel(self):
        found = await layer.receive("parcels")  # <-- other
        return found["name"]


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reactor.callWhenRunning(print, f"Serving on http://127.0.0.1:{port}", flush=True)
    server = Server(ProtocolTypeRouter({"http": Parcels.as_asgi()}), endpoints=[f"tcp:{port}:interface=127.0.0.1"])
    server.run()
