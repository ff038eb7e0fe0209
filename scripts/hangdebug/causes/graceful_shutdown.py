"""The server was told to stop, and waits for what is still open.

It closes its port at once, and then waits: for connections that a client keeps open (a stream of events ends when the
client goes, not when the server wants to), for handlers in threads, for background tasks, for the lifespan's
last lines. uvicorn waits without end, unless it has `--timeout-graceful-shutdown`.

Repair: start it with `--timeout-graceful-shutdown 10`; end streams yourself when the server stops; give the lifespan's
clean-up a timeout (`asyncio.wait_for`).
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence.vocabulary import EvidenceKind
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    says_so = any(one.kind == "stopping" for snapshot in scene.evidence.snapshots for one in snapshot.stated)
    if seen.state != "exit-hang" or not (scene.loop or says_so):
        return None
    if wait is not None and wait.view.role == "event-loop":  # the lifespan blocks the loop: that has a cause of its own
        return None
    closed = scene.evidence.process.listens is False  # stacks alone do not tell what the loop still waits for
    kinds: set[EvidenceKind] = {"kernel"} if closed else set()
    if wait is not None and wait.coroutine:  # the lifespan's own task
        kinds.add("tasks")
    return Match(frozenset(kinds))


CAUSE = Cause(
    id="graceful-shutdown",
    title="the server was told to stop and waits for what is open",
    match=match,
    snippet="uvicorn_signals.py",
    confused_with={
        "interpreter-exit": "there the server is done, and the interpreter joins threads.",
        "default-executor": "there asyncio joins its threads, after the server has stopped.",
    },
)
