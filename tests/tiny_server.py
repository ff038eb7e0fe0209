"""HTTP servers of a few lines, each with what a proof must not be fooled by: `python tiny_server.py KIND PORT`.

good     all is well                    old      hangs when the reader of /stream leaves
deaf     /stream's thread works on      tasks    /stream's task stays
leak     a bad order takes a permit     opposite two opposite moves lock each other out
pair     two workers, the first is old  absent   two workers, the second takes no connection
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

KIND = sys.argv[1]
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
pool = ThreadPoolExecutor(8)
left_over = set()
permits = asyncio.Semaphore(2)
accounts = {"a": asyncio.Lock(), "b": asyncio.Lock()}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    method, path = head.split(" ")[:2]
    if path == "/stream":
        await stream(reader, writer)
    else:
        length = int(head.lower().partition("content-length:")[2].split("\r\n")[0] or 0)
        body = (await reader.readexactly(length)).decode()
        status, text = await answered(method, path, body)
        writer.write(f"HTTP/1.1 {status} -\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
    writer.close()


async def answered(method: str, path: str, body: str) -> tuple[int, str]:
    if path == "/health":
        return 200, "ok"
    if path == "/slow":
        await asyncio.sleep(30)
    if (method, path) == ("POST", "/orders"):
        return await order(body)
    if (method, path) == ("POST", "/moves"):
        return await move(*body.split())
    return 404, "no such place"


async def order(body: str) -> tuple[int, str]:
    await permits.acquire()
    if body == "bad":
        if KIND != "leak":
            permits.release()
        return 422, "bad order"
    permits.release()
    return 201, "taken"


async def move(source: str, target: str) -> tuple[int, str]:
    first, second = (source, target) if KIND == "opposite" else sorted([source, target])
    async with accounts[first]:
        await asyncio.sleep(0.3)
        async with accounts[second]:
            return 200, "moved"


async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM)
    if KIND == "deaf":
        pool.submit(time.sleep, 20)
    if KIND == "tasks":
        left_over.add(asyncio.ensure_future(asyncio.sleep(60)))
    if KIND == "pair" and begin:
        os.write(begin, b"1")
    await reader.read()  # to the end: the client leaves
    if KIND == "old" or (KIND == "pair" and begin):
        time.sleep(30)


async def main(listener: socket.socket) -> None:
    server = await asyncio.start_server(serve, sock=listener)
    await server.serve_forever()


begin = 0  # of the second worker: it takes connections once the first has a stream
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
if KIND in ("pair", "absent"):
    wait, begin = os.pipe()
    if not os.fork():
        begin = 0
    elif os.fork():  # the supervisor
        os.wait()
    if not begin:
        if KIND == "absent":
            time.sleep(60)
        os.read(wait, 1)
with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main(listener))
