"""An asynchronous script waits for an answer that never comes: it serves nobody, so no request shows that it hangs."""

import asyncio
import socket

import httpx

SERVER = "script"
STATE = "tasks-waiting"
CAUSE = "http-client"
NEEDS = "httpx"
READY = True

exchange = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


async def price():
    async with httpx.AsyncClient(timeout=None) as client:
        return await client.get(f"http://127.0.0.1:{exchange.getsockname()[1]}/tea")  # <-- http-client


async def main():
    asyncio.get_running_loop().call_later(0.5, lambda: print("READY", flush=True))
    print(await price())


if __name__ == "__main__":
    asyncio.run(main())
