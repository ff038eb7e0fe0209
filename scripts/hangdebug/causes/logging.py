"""A log record cannot be written.

A handler writes on the thread that logs: to a pipe that nobody empties, to a terminal that was paused (Ctrl-S),
to a syslog, mail or HTTP server that is slow. It holds the handler's lock meanwhile, so that every other thread
that logs waits too. `print()` to a full pipe is the same without the frames of logging.

Repair: a `logging.handlers.QueueHandler` for the application, and a `QueueListener` that writes; then find
out why nobody reads the stream.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

MODULES = ("logging/__init__.py", "logging/handlers.py", "logging/config.py")
PACKAGES = ("loguru", "structlog", "logbook", "eliot", "logging_loki", "logstash", "logstash_async")
PRINTS = ("print", "stdout", "stderr", "echo", "pprint")


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or seen.state == "loop-busy":
        return None
    by_kernel = wait.in_syscall("write", "writev", "sendto", "sendmsg")
    words = (f"The kernel has it in {wait.kernel}.",) if by_kernel else ()
    if wait.inside(*MODULES) or wait.inside_package(*PACKAGES):
        logs = f"It logs: {wait.outermost or wait.view.inner[0]}."
        return Match(frozenset({"frames", "kernel"} if by_kernel else {"frames"}), (logs, *words))
    if wait.running or not wait.in_syscall("write", "writev") or not set(wait.descriptors) & {1, 2}:
        return None
    return Match(frozenset({"source", "kernel"} if wait.line_says(*PRINTS) else {"kernel"}), words)


CAUSE = Cause(
    id="logging",
    title="the event loop's thread waits to write its log",
    picture="file",
    match=match,
    confused_with={
        "lock": "a handler's lock is taken inside of logging: look for the thread that holds it and writes.",
        "socket": "a handler that sends over the network shows frames of logging below the socket's.",
    },
    owed="likely",
)
