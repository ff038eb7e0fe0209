"""Health routes that tell "alive" from "fit to serve", with the loop's lag and the use of the thread pools.

    app = FastAPI(lifespan=lag_meter)   # or: async with lag_meter(app), in a lifespan of your own
    app.include_router(router)          # GET /health/live, GET /health/ready

Use when   something restarts or routes by a health check. Liveness: 200 as long as the loop turns; no answer
           is the sign to restart. Readiness: 503 while the service is overloaded or about to stop.
           The repository's deploy/liveness.sh asks it, and keeps a bundle before anybody restarts.
Not when   liveness is to check the database: an outage there would restart every healthy process.
Costs      a task that wakes 10 times a second. The routes are `async def`: a `def` route needs a thread.
Python     3.9 and later, AnyIO 4, FastAPI.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import APIRouter, FastAPI, Request, Response

EVERY, SPAN = 0.1, 10.0  # seconds between two measurements, and for how long one counts
MOST_LAG = 0.5  # seconds
MOST_WAITING = 10  # calls that wait for a thread
router = APIRouter(prefix="/health")


@asynccontextmanager
async def lag_meter(app: FastAPI) -> AsyncIterator[None]:
    """Measure how late the loop wakes a task. `app.state.closing = True` makes the app unready."""
    app.state.lags, app.state.closing = deque(maxlen=int(SPAN / EVERY)), False

    async def measure() -> None:
        while True:
            due = time.monotonic() + EVERY
            await asyncio.sleep(EVERY)
            app.state.lags.append((due, max(0.0, time.monotonic() - due)))

    task = asyncio.ensure_future(measure())
    try:
        yield
    finally:
        task.cancel()


@router.get("/live")
async def live() -> dict[str, str]:
    return {"status": "alive"}


@router.get("/ready")
async def ready(request: Request, response: Response) -> dict[str, object]:
    now, state = time.monotonic(), request.app.state
    threads = to_thread.current_default_thread_limiter().statistics()
    lag = max((late for due, late in state.lags if now - due - late < SPAN), default=0.0)
    troubles = ["the loop lags"] if lag > MOST_LAG else []
    troubles += ["the app stops"] if state.closing else []
    troubles += ["calls wait for a thread"] if threads.tasks_waiting > MOST_WAITING else []
    response.status_code = 503 if troubles else 200
    return {
        "status": "; ".join(troubles) or "ready",
        "worst_lag_seconds": round(lag, 3),
        "threads_busy": threads.borrowed_tokens,
        "threads": threads.total_tokens,
        "calls_waiting": threads.tasks_waiting,
    }


if __name__ == "__main__":  # a demonstration

    async def ask(app: FastAPI) -> None:
        async with lag_meter(app):
            await asyncio.sleep(0.5)
            print(await ready(Request({"type": "http", "app": app}), Response()))

    asyncio.run(ask(FastAPI()))
