"""Stream the results of blocking calls; when the client leaves, the threads stop and the loop goes on.

    @app.get("/stream", response_class=EventSourceResponse)      # where FastAPI has fastapi.sse; elsewhere:
    async def stream() -> AsyncIterator[str]:                    # return StreamingResponse(lines, media_type=
        async for page in stream_results(download, urls):        # "text/event-stream"), each line
            yield page                                           # f"data: {page}\\n\\n"

    client = httpx.Client(timeout=2)  # for all calls: threads may share it

    def download(url: str, stop: threading.Event) -> str:  # short timeouts, and a look at `stop` now and then
        with client.stream("GET", url) as response:  # not requests' iter_content(8192),
            chunks = itertools.takewhile(lambda chunk: not stop.is_set(), response.iter_bytes())
            return b"".join(chunks).decode()                     # which may wait for so many bytes

Use when   an async generator hands on what blocking calls return, and its client may leave at any time.
Not when   the calls have an async form, or must be finished all the same: queue these as jobs.
Costs      `workers` threads a stream, or one `pool` for all (lifespan_executor.py). A call that runs keeps
           its thread until it looks at `stop` or times out, and the interpreter's exit waits for that.
Python     3.9 and later (`cancel_futures`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Optional, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def stream_results(
    work: Callable[[Item, threading.Event], Result],
    items: Iterable[Item],
    *,
    workers: int = 4,
    pool: Optional[ThreadPoolExecutor] = None,
) -> AsyncGenerator[Result, None]:
    """Yield `work(item, stop)` for each item, as they end; `workers` results wait for a slow client."""

    def call(item: Item) -> Result:
        try:
            return work(item, stop)
        except StopIteration as error:  # no future can hold one: the stream would wait for ever
            raise RuntimeError("the work raised StopIteration") from error

    loop, stop = asyncio.get_running_loop(), threading.Event()
    threads = pool or ThreadPoolExecutor(max_workers=workers, thread_name_prefix="stream")
    waiting = iter(items)
    calls: set[asyncio.Future[Result]] = set()
    done: set[asyncio.Future[Result]] = set()
    try:
        while True:
            for item in waiting:
                calls.add(loop.run_in_executor(threads, call, item))
                if len(calls) == workers:
                    break
            if not calls:
                return
            done, calls = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            while done:
                yield done.pop().result()
    finally:  # also on CancelledError, which is how a disconnect arrives; nothing below waits
        stop.set()
        for late in calls:
            late.cancel()  # so that nobody is told of an error that comes too late,
        for late in done:
            late.exception()  # nor of one that came beside another
        if threads is not pool:
            threads.shutdown(wait=False, cancel_futures=True)


if __name__ == "__main__":  # a demonstration: the reader leaves after the first result

    async def read_one() -> None:
        async for result in stream_results(lambda seconds, stop: stop.wait(seconds), [0, 60, 60]):
            print("first result:", result, "- the reader leaves, and the calls of 60 s end with it")
            return

    asyncio.run(read_one())
