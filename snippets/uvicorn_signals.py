"""Know at once that the server is told to stop, and end open streams, so that nothing holds its exit.

    @asynccontextmanager
    async def lifespan(app):
        async with told_to_stop() as app.state.closing:
            yield

    @app.get("/events")
    async def events(request: Request) -> StreamingResponse:
        return StreamingResponse(until(request.app.state.closing, ticker()), media_type="text/event-stream")

    uvicorn app.main:app --timeout-graceful-shutdown 5    # for what does not end by itself

Use when   the app has streams: uvicorn waits for open connections before it closes the lifespan, without
           end. Only the signal comes in time.
Not when   requests are short. Never `signal.signal` alone: a handler that replaces uvicorn's keeps it from
           stopping, and one installed at import is itself replaced. This one calls the one before.
Costs      a task for each step of a stream: its generator may hold no task group or timeout over a `yield`.
Python     3.9 and later; asyncio and uvloop; uvicorn, also under gunicorn. hypercorn's workers get no signal.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
log = logging.getLogger("uvicorn.error")  # the logger that a plain uvicorn prints


@asynccontextmanager
async def told_to_stop() -> AsyncIterator[asyncio.Event]:
    """An event that is set on the first SIGINT or SIGTERM. The handlers that were there run as before."""
    loop, closing = asyncio.get_running_loop(), asyncio.Event()
    before: dict[int, Any] = {}

    def handler(number: int, frame: object) -> None:
        loop.call_soon_threadsafe(tell, number)  # the signal comes in the middle of anything
        before[number](number, frame)

    def tell(number: int) -> None:
        log.info("stop: %s, open streams end now", signal.Signals(number).name)
        closing.set()

    if threading.current_thread() is threading.main_thread():  # elsewhere none can arrive
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(number)):  # only where the server has one that stops it
                before[number] = signal.getsignal(number)
                signal.signal(number, handler)
    try:
        yield closing
    finally:
        for ours in filter(lambda each: signal.getsignal(each) is handler, before):
            signal.signal(ours, before[ours])


async def until(closing: asyncio.Event, items: AsyncGenerator[Item, None]) -> AsyncIterator[Item]:
    """`items`, up to the moment when `closing` is set. The generator behind them is closed in any case."""
    stop, step = asyncio.ensure_future(closing.wait()), None
    try:
        while not closing.is_set():
            step = asyncio.ensure_future(items.__anext__())
            await asyncio.wait({stop, step}, return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                break
            yield step.result()
    except StopAsyncIteration:
        pass
    finally:
        stop.cancel()
        if step and not step.done():
            step.cancel()  # CancelledError arrives inside of `items`, as on a disconnect
            await asyncio.wait({step}, timeout=1)
        else:
            await items.aclose()


if __name__ == "__main__":  # a demonstration

    async def ticks() -> AsyncGenerator[int, None]:
        for number in range(1000):
            yield number
            await asyncio.sleep(0.1)

    async def demonstrate() -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: None)  # in place of the server's
        async with told_to_stop() as closing:
            asyncio.get_running_loop().call_later(0.25, signal.raise_signal, signal.SIGTERM)
            print("read until SIGTERM:", [number async for number in until(closing, ticks())])

    asyncio.run(demonstrate())
