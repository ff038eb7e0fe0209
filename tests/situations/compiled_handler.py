"""A request that waits for a peer in compiled code, on the loop: Python's own stack ends where the handler is called.

It compiles itself with Cython, and serves what came out.
"""

import asyncio
import importlib.util
import shutil
import socket
import tempfile
from pathlib import Path

SERVER = "script"
STATE = "loop-blocked"
CAUSE = "socket"
TRIGGER = ("/stock",)
SYMPTOM = "/health"
NEEDS = "Cython"
NEEDS_KERNEL = True

bank = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


def ask_for_stock():
    with socket.create_connection(bank.getsockname()) as line:
        return line.recv(64)  # <-- socket


async def answer(reader, writer):
    line = await reader.readline()
    if b"/stock" in line:
        ask_for_stock()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(f"Serving on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


def compiled():
    from Cython.Build import cythonize
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    folder = Path(tempfile.mkdtemp(prefix="zoo-"))
    source = str(shutil.copy(__file__, folder / "compiled_handler.py"))
    build = build_ext(Distribution({"ext_modules": cythonize(source, build_dir=str(folder), quiet=True)}))
    build.build_lib, build.build_temp = str(folder / "lib"), str(folder)
    build.ensure_finalized()
    build.run()
    spec = importlib.util.spec_from_file_location("compiled_handler", next((folder / "lib").glob("*.so")))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    asyncio.run(compiled().main())
