"""What libraries call their functions, and so what a frame shows: whose loop polls, whose pool works, who serves."""

from __future__ import annotations

import re

LOOP = (
    "asyncio/base_events.py:_run_once",
    "asyncio/base_events.py:run_forever",
    "asyncio/base_events.py:run_until_complete",
    "asyncio/runners.py:run",
    "asyncio/windows_events.py:run_forever",
    "uvloop/__init__.py:run",
    "nest_asyncio.py:_run_once",
    "nest_asyncio.py:run_until_complete",
    "trio/_core/_run.py:run",
    "trio/_core/_run.py:unrolled_run",
    "uvicorn/server.py:run",
    "uvicorn/server.py:serve",
    "uvicorn/_compat.py:asyncio_run",
    "hypercorn/asyncio/run.py:_run",
    "aiohttp/web.py:run_app",
    "aiohttp/worker.py:run",
    "sanic/server/runners.py:_run_server_forever",
    "sanic/server/runners.py:_serve_http_1",
    "sanic/server/runners.py:_serve_http_3",
    "tornado/platform/asyncio.py:start",
    "twisted/internet/asyncioreactor.py:run",
    "taskgroup/runners.py:run",
    *(
        f"granian/server/{kind}.py:_spawn_{protocol}_worker"
        for kind in ("mp", "mt")
        for protocol in ("asgi", "asgi_lifespan", "rsgi", "rsgi_lifespan")
    ),
)
RUNS_LOOP = frozenset("asyncio.run uvloop.run anyio.run".split())
RUNS_ITS_LOOP = frozenset("run_until_complete run_forever".split())  # methods of a loop, whatever its name
POLL = (
    "selectors.py:select",
    "selectors.py:_select",
    "asyncio/windows_events.py:select",
    "asyncio/windows_events.py:_poll",
    "trio/_core/_io_epoll.py:get_events",
)
HANDLE = ("asyncio/events.py:_run",)
POOL = (
    "concurrent/futures/thread.py:_worker",
    "concurrent/futures/thread.py:run",
    "multiprocessing/pool.py:worker",
    "concurrent/futures/process.py:_process_worker",
)
ANYIO_WORKER = "anyio/_backends/_asyncio.py:run"
POOL_NAME = re.compile(r"^(?:AnyIO worker thread|(?:asyncio|uvloop|ThreadPoolExecutor-\d{1,6})_\d{1,6})$")
PARKED = ("queue.py:get", "threading.py:wait")
# A forked child keeps its parent's stack below these frames: it does not run the loop that stands there.
FORKED = ("multiprocessing/process.py:_bootstrap", "concurrent/futures/process.py:_process_worker", "os.py:fork")
SERVERS = frozenset("uvicorn hypercorn gunicorn granian daphne starlette fastapi aiohttp sanic quart litestar".split())
ASYNC = SERVERS | frozenset("asyncio anyio uvloop trio asgiref sse_starlette".split())
SERVES = frozenset("wrap app run_asgi run_endpoint_function stream_response".split())  # run inside of a loop alone
# Where coroutines stand while they are suspended: no thread does, so such a stack is a task's.
SUSPENDED = (
    "asyncio/locks.py",
    "asyncio/queues.py",
    "asyncio/tasks.py:sleep",
    "asyncio/futures.py:__await__",
    "asyncio/streams.py",
    "anyio/_backends/_asyncio.py:wait",
    "anyio/streams/memory.py",
)
SYNCHRONOUS = (
    "gunicorn/workers/sync.py",
    "gunicorn/workers/gthread.py",
)  # the one server that has both kinds of worker
SUPERVISORS = ("uvicorn/supervisors/", "gunicorn/arbiter.py", "hypercorn/run.py", "granian/server/")
WORKERS = ("gunicorn/workers/",)  # forked from the supervisor: its frames stand below theirs
