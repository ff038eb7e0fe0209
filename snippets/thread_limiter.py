"""Size the threads that serve `def` routes, and give slow work threads of its own.

    @asynccontextmanager
    async def lifespan(app):
        size_default(40)
        app.state.slow = SlowWork(threads=4, queue=20)
        yield

    @app.get("/export")
    async def export(request: Request) -> str:      # not `def`: that would take one of the shared threads
        return await request.app.state.slow.run(make_export)

Use when   `def` routes, UploadFile and FileResponse starve behind slow calls: all of them share AnyIO's 40
           threads (`threadpool-exhausted`). Size: requests a second x seconds each, and some room; 20 a
           second of 0.5 s each need 10. More threads than the database has connections wait for these.
Not when   the slow call has an async form. More threads do not mend a call without a timeout: they only
           hang later.
Costs      a thread for each call under way. A full queue answers 503 at once, which a client understands
           better than silence.
Python     3.9 and later, AnyIO 4, Starlette or FastAPI.
"""

from __future__ import annotations

from typing import Callable, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import HTTPException

Result = TypeVar("Result")


def size_default(threads: int) -> None:
    """How many threads `def` routes and `anyio.to_thread.run_sync` share. Call it in a lifespan."""
    to_thread.current_default_thread_limiter().total_tokens = threads


class SlowWork:
    """Threads for calls that may take long, apart from those of the `def` routes."""

    def __init__(self, threads: int, queue: int) -> None:
        self._limiter, self._most, self._taken = CapacityLimiter(threads), threads + queue, 0

    async def run(self, call: Callable[..., Result], *args: object) -> Result:
        """`call(*args)` in a thread. Raises HTTPException (503) where `queue` others wait already.

        A client that leaves a queue makes room in it. A call that runs is not interrupted, and keeps its
        thread: it is not abandoned, or the limit would be none.
        """
        if self._taken >= self._most:  # counted here: in a burst, none of a hundred is seen to wait yet
            raise HTTPException(503, "too much slow work is under way", {"Retry-After": "10"})
        self._taken += 1
        try:
            return await to_thread.run_sync(call, *args, limiter=self._limiter)
        finally:
            self._taken -= 1

    def use(self) -> dict[str, float]:
        """For a health route: threads in use, in all, and calls that wait."""
        now = self._limiter.statistics()
        return {"busy": now.borrowed_tokens, "threads": now.total_tokens, "waiting": now.tasks_waiting}


if __name__ == "__main__":  # a demonstration: one thread, one place in the queue, three calls
    import asyncio
    import time

    async def three_calls() -> None:
        slow = SlowWork(threads=1, queue=1)
        print(await asyncio.gather(*(slow.run(time.sleep, 0.2) for _ in range(3)), return_exceptions=True))

    asyncio.run(three_calls())
