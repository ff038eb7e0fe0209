"""An application whose import waits for an answer: the server has not begun to serve."""

import socket

from fastapi import FastAPI

READY = True
STATE = "startup-hang"
CAUSE = "socket"

ours, theirs = socket.socketpair()  # nobody ever answers
print("READY", flush=True)
ours.recv(1)  # <-- socket
app = FastAPI()
