"""The registry of causes, most specific first. The first that matches the scene's wait is the answer."""

from __future__ import annotations

from hangdebug.causes import (
    connection_pool, cpu_bound, database, default_executor, executor_shutdown, fork, future_result,
    graceful_shutdown, http_client, interpreter_exit, lock, none, other, regex,
    serialization, sleep, thread_join, threadpool_limit,
)
from hangdebug.model import Cause, Match, Verdict
from hangdebug.scene import Scene
from hangdebug.waits import Wait

CAUSES: tuple[Cause, ...] = (
    none.CAUSE,
    fork.CAUSE,
    interpreter_exit.CAUSE,
    connection_pool.CAUSE,
    default_executor.CAUSE,
    graceful_shutdown.CAUSE,
    threadpool_limit.CAUSE,
    executor_shutdown.CAUSE,
    future_result.CAUSE,
    database.CAUSE,
    http_client.CAUSE,
    thread_join.CAUSE,
    regex.CAUSE,
    serialization.CAUSE,
    cpu_bound.CAUSE,
    sleep.CAUSE,
    lock.CAUSE,
    other.CAUSE,
)


def cause_of(verdict: Verdict, wait: Wait | None, scene: Scene) -> tuple[Cause, Match]:
    """The first registered cause that matches; the last one always does."""
    for cause in CAUSES:
        match = cause.match(verdict, wait, scene)
        if match is not None:
            return cause, match
    raise AssertionError("the last cause matches everything")
