"""A mail sent from a coroutine.

`smtplib` greets a gateway that accepts the connection and says nothing. Its frames are on the stack, so that
a dump alone shows a network protocol.
"""

import smtplib
import socket

from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "socket"
TRIGGER = ("/invite",)
SYMPTOM = "/health"

app = FastAPI()
gateway = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/invite")
async def invite():
    with smtplib.SMTP(*gateway.getsockname()) as mail:  # <-- socket
        mail.sendmail("us@example.org", "you@example.org", "Subject: welcome\n\n")
