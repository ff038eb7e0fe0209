"""A host name looked up in a coroutine.

`socket.getaddrinfo` blocks until a name server answers. This process asks one of its own, which never does:
glibc keeps the servers' addresses in memory, and that is where they are replaced.
"""

import ctypes
import socket

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "dns"
TRIGGER = ("/partner",)
SYMPTOM = "/health"

app = FastAPI()
name_server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
name_server.bind(("127.0.0.1", 0))  # nobody reads the questions


class Address(ctypes.Structure):
    """struct sockaddr_in, its port in network order."""
    _fields_ = [("family", ctypes.c_ushort), ("port", ctypes.c_ubyte * 2), ("host", ctypes.c_ubyte * 4),
                ("zero", ctypes.c_ubyte * 8)]


class Resolver(ctypes.Structure):
    """The beginning of glibc's struct __res_state: <resolv.h>."""
    _fields_ = [("seconds", ctypes.c_int), ("tries", ctypes.c_int), ("options", ctypes.c_ulong),
                ("count", ctypes.c_int), ("servers", Address * 3)]


def ask_only(port):
    libc = ctypes.CDLL(None)
    libc.__res_init()
    libc.__res_state.restype = ctypes.POINTER(Resolver)
    resolver = libc.__res_state().contents
    resolver.seconds, resolver.count = 86400, 1
    here = (ctypes.c_ubyte * 2)(*port.to_bytes(2, "big")), (ctypes.c_ubyte * 4)(127, 0, 0, 1)
    resolver.servers[0] = Address(socket.AF_INET, *here)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/partner")
async def partner():
    ask_only(name_server.getsockname()[1])
    found = socket.getaddrinfo("rates.example.com", 443)  # <-- dns
    return {"addresses": [address[4][0] for address in found]}
