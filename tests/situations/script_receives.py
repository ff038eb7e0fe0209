"""A script that waits for what a peer has to say first: it may be slow, or have nothing to say."""

import socket

SERVER = "script"
READY = True
STATE = "sync-worker-blocked"
CAUSE = "socket"

silent = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
line = socket.create_connection(silent.getsockname())
print("READY", flush=True)
line.recv(1)  # <-- socket
