"""The registry of causes, most specific first. The first that matches the scene's wait is the answer."""

from __future__ import annotations

from hangdebug.causes import (
    connection_pool,
    cpu_bound,
    database,
    debugger,
    default_executor,
    dns,
    executor_shutdown,
    file_io,
    fork,
    future_result,
    gc,
    graceful_shutdown,
    http_client,
    import_lock,
    interpreter_exit,
    lock,
    logging,
    nested_loop,
    none,
    other,
    queue,
    regex,
    run_coroutine_threadsafe,
    serialization,
    sleep,
    socket,
    stdin,
    subprocess,
    thread_join,
    threadpool_limit,
)
from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

CAUSES: tuple[Cause, ...] = (
    none.CAUSE,
    fork.CAUSE,
    interpreter_exit.CAUSE,
    connection_pool.CAUSE,
    default_executor.CAUSE,
    graceful_shutdown.CAUSE,
    threadpool_limit.CAUSE,
    gc.CAUSE,
    run_coroutine_threadsafe.CAUSE,
    debugger.CAUSE,
    logging.CAUSE,
    executor_shutdown.CAUSE,
    future_result.CAUSE,
    dns.CAUSE,
    database.CAUSE,
    http_client.CAUSE,
    thread_join.CAUSE,
    queue.CAUSE,
    nested_loop.CAUSE,
    stdin.CAUSE,
    subprocess.CAUSE,
    file_io.CAUSE,
    socket.CAUSE,
    import_lock.CAUSE,
    regex.CAUSE,
    serialization.CAUSE,
    cpu_bound.CAUSE,
    sleep.CAUSE,
    lock.CAUSE,
    other.CAUSE,
)


def cause_of(scene: Scene, wait: Wait | None, seen: Seen = Seen()) -> tuple[Cause, Match]:
    """The first registered cause that matches, and what recognised it; the last one always does.

    Without `seen` it is only asked what a thread waits in, whatever that means for the process.
    """
    for cause in CAUSES:
        match = cause.match(scene, wait, seen)
        if match is not None:
            return cause, match
    raise AssertionError("the last cause matches everything")
