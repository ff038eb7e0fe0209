"""A script that would serve, and waits for an answer before it does: no event loop runs yet."""

import socket

import uvicorn
from fastapi import FastAPI

SERVER = "script"
READY = True
STATE = "startup-hang"
CAUSE = "socket"

ours, theirs = socket.socketpair()  # nobody ever answers
print("READY", flush=True)
ours.recv(1)  # <-- socket
app = FastAPI()
uvicorn.run(app)
