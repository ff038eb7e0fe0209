"""A second event loop runs inside the first one's thread.

A helper that hides the running loop, `nest_asyncio`, or another framework's `run` called in a coroutine: the
inner loop waits for its own coroutine, and the outer one, with every connection of the server, stands still.

Repair: `await` the coroutine. Where synchronous code has to call asynchronous code, run the synchronous part in
a thread (`await asyncio.to_thread(...)`) and come back with `asyncio.run_coroutine_threadsafe` from there.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence.kernel import EPOLL
from hangdebug.evidence.libraries import LOOP
from hangdebug.evidence.vocabulary import EvidenceKind
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

RUNS = ("run_until_complete", "run_forever", "asyncio.run", "trio.run", "anyio.run", "uvloop.run", "gevent.wait")
GEVENT = ("gevent/hub.py", "eventlet/hubs/hub.py")


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or wait.view.role != "event-loop" or seen.state == "loop-busy" or wait.frame is None:
        return None
    if wait.inside(*LOOP, *GEVENT):
        return Match(frozenset({"frames"}), (f"It called {wait.outermost}: a loop inside of the loop.",))
    if wait.leaf and wait.line_calls(*RUNS) and wait.syscall in (None, *EPOLL):
        kinds: set[EvidenceKind] = {"source", "kernel"} if wait.in_syscall(*EPOLL) else {"source"}
        return Match(frozenset(kinds), (f"Its line runs a loop inside of the loop: {wait.text}",))
    return None


CAUSE = Cause(
    id="nested-loop",
    title="a second event loop runs inside the first one's thread",
    match=match,
    confused_with={"run-coroutine-threadsafe": "there the coroutine is handed to the outer loop, which cannot run it."},
)
