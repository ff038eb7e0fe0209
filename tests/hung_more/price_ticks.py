"""The next message of a gRPC stream, in a coroutine.

The blocking stub's stream is an iterator. Its `next` waits on a condition until a message comes: the stack ends in
`threading.wait`, as for any lock, and the socket belongs to a thread of the C core that no Python stack shows.
"""

import socket

import grpc
from fastapi import FastAPI

STATE = "loop-blocked"
CAUSE = "http-client"
NEEDS = "grpc"
TRIGGER = ("/ticks/EURUSD",)
SYMPTOM = "/health"

app = FastAPI()
exchange = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it, and nobody ever answers
channel = grpc.insecure_channel("127.0.0.1:%d" % exchange.getsockname()[1])
subscribe = channel.unary_stream("/exchange.Prices/Subscribe")


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/ticks/{pair}")
async def ticks(pair: str):
    for tick in subscribe(pair.encode(), wait_for_ready=True):  # <-- http-client
        return {"pair": pair, "price": tick.decode()}
