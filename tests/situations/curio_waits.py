"""A server of curio's whose clients wait for an event: the tasks of curio cannot be read."""

import curio

SERVER = "script"
STATE = "inconclusive"
CAUSE = "other"
NEEDS = "curio"
NEEDS_KERNEL = True
TRIGGER = ("/updates",)
COUNT = 2
CONTROL = "/health"

changed = curio.Event()


async def serve(client, address):
    if b"/updates" in await client.recv(1000):
        await changed.wait()
    await client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def main():
    listener = curio.network.tcp_server_socket("127.0.0.1", 0)
    print(f"Serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await curio.network.run_server(listener, serve)


if __name__ == "__main__":
    curio.run(main)
