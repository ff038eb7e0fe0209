"""An open stream of events keeps a server alive that was told to stop.

On SIGTERM uvicorn closes its port, and waits for the client of the stream to go. It does not go, and the stream has
no end of its own. No stack shows it: the loop is idle, and no thread works.
"""

import asyncio

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

STATE = "exit-hang"
CAUSE = "graceful-shutdown"
NEEDS_KERNEL = True
TRIGGER = ("/ticks",)
SIGNAL = "SIGTERM"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/ticks")
async def ticks():
    async def stream():
        while True:
            yield "data: tick\n\n"
            await asyncio.sleep(3600)

    return StreamingResponse(stream(), media_type="text/event-stream")
