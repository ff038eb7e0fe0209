"""All connections of a pool are in use, and one more is asked for.

SQLAlchemy's QueuePool opens 5 connections, and 10 more, then lets its callers wait for 30 s; psycopg_pool and redis's
blocking pool do the same. A pool runs dry where connections are not given back (a session without `with`, an early
return), where one request takes a second connection while it holds its first, or where slow calls are made in between.
On the event loop's thread waiting does not help: the code that would give a connection back cannot run meanwhile.

Repair: `with engine.connect()` or `with pool.connection()` around the query alone; one connection a request; a
short `pool_timeout`; as many connections as threads that use them.
"""

from __future__ import annotations

from hangdebug.causes.database import DRIVERS
from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, library_path, package
from hangdebug.evidence.model import Frame
from hangdebug.scene.pools import FETCH, coroutines_asking, requests_under_way
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

WAITS = ("threading.py:wait", "threading.py:acquire", "threading.py:__enter__", "queue.py:get")
ASYNCIO_WAITS = ("asyncio/queues.py:get", "asyncio/locks.py", "asyncio/tasks.py:wait_for")
ANYIO_WAITS = ("anyio/_core/_synchronization.py", "anyio/_backends/_asyncio.py:wait", "httpcore/_synchronization.py")
AWAITS = (*ASYNCIO_WAITS, *ANYIO_WAITS, "sqlalchemy/util/compat.py:wait_for", "psycopg_pool/_acompat.py")
# What pools raise when none has been given back in time.
GAVE_UP = re.compile(
    r"QueuePool limit|\bPoolTimeout\b|[Cc]onnection pool (?:is )?exhausted|No connection available|PoolError"
)
CLIENTS = ("urllib3", "httpcore")  # of HTTP: a response that is neither read nor closed keeps its connection
ASYNC = ("asyncpg", "aiomysql", "aiopg", "aioredis", "httpcore", "aiohttp", "asyncmy")
WAITERS = ("aiohttp/connector.py:_wait_for_available_connection",)  # it awaits a bare future, which has no frame
# SQLAlchemy's async pool waits in a greenlet, whose frames no task shows; its queries wait in the driver's coroutines.
GREENLET = ("sqlalchemy/util/concurrency.py:greenlet_spawn", "sqlalchemy/util/_concurrency_py3k.py:greenlet_spawn")


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or seen.state in ("loop-busy", "healthy"):
        return None
    raised = () if scene.last else scene.evidence.snapshots[-1].threads
    gave_up = next((one.raised for one in raised if GAVE_UP.search(one.raised)), "")
    if gave_up:
        return Match(frozenset({"frames"}), (f"Its exception says so: {gave_up}",))
    fetches = wait.coroutine and wait.leaf and FETCH in (wait.text or "")
    running, asking = requests_under_way(scene), coroutines_asking(scene) if fetches else 0
    if running and asking > running:
        words = f"{asking} coroutines wait for their client, which has {running} requests under way, all the time."
        return Match(frozenset({"source", "tasks"}), (words,))
    step = checkout_frame(wait)
    if step is None:
        return None
    words = f"It waits in {step} until a connection is given back."
    return Match(frozenset({"tasks" if wait.coroutine else "frames"}), (words,))


def checkout_frame(wait: Wait) -> Frame | None:
    """The pool's function that waits for a connection: a driver's own file, above nothing but a wait.

    A pool that opens a new connection waits for the network instead, which is no exhaustion.
    """
    inner = wait.view.inner
    if wait.coroutine and inner and calls(inner[0], *WAITERS):
        return inner[0]
    waits, drivers = (AWAITS, (*DRIVERS, *ASYNC)) if wait.coroutine else (WAITS, (*DRIVERS, *CLIENTS))
    waiting = next((index for index, frame in enumerate(inner) if not calls(frame, *waits)), len(inner))
    if not waiting or waiting == len(inner) or package(inner[waiting]) not in drivers:
        return None
    if wait.coroutine:
        return next((one for one in inner[waiting : waiting + 2] if names_pool(one) or calls(one, *GREENLET)), None)
    return next((one for one in inner[waiting:] if package(one) in drivers and names_pool(one)), None)


def names_pool(frame: Frame) -> bool:
    """By its file or function: some pools stand in connection.py, as `BlockingConnectionPool.get_connection` does."""
    return frame.name == "get_connection" or "pool" in f"{library_path(frame.file)}:{frame.function}".lower()


CAUSE = Cause(
    id="connection-pool",
    title="the event loop's thread waits for a free connection of a pool",
    picture="lock",
    match=match,
    snippet="db_stream.py",
    confused_with={
        "database": "there a query is under way; here it has no connection to be sent on.",
        "lock": "a pool waits on a condition too; the frames above it are a database driver's.",
    },
    owed="likely",
    frames_wait=True,
)
