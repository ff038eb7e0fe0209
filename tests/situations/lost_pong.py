"""A request awaits the pong of a web socket, which a library's bare future stands for: its peer never sends one."""

import asyncio
import base64
import hashlib

import websockets
from fastapi import FastAPI

STATE = "tasks-waiting"
CAUSE = "other"
NEEDS = "websockets"
NEEDS_KERNEL = True
TRIGGER = ("/alive",)
CONTROL = "/health"

app = FastAPI()
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@app.get("/health")
async def health():
    return {"status": "ok"}


async def upgrade_and_be_silent(reader, writer):
    head = await reader.readuntil(b"\r\n\r\n")
    lines = (line.partition(b":") for line in head.splitlines())
    key = next(value.strip() for name, _, value in lines if name.lower() == b"sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    await asyncio.sleep(3600)


@app.get("/alive")
async def alive():
    server = await asyncio.start_server(upgrade_and_be_silent, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with websockets.connect(f"ws://{host}:{port}/", ping_interval=None, proxy=None) as feed:
        pong = await feed.ping()
        await pong  # <-- other
    return {"alive": True}
