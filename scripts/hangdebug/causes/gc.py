"""A finaliser runs on the event loop's thread, and blocks.

Nobody called it: Python did, when the last reference went away or when the garbage collector came by, on
whatever line of whatever thread. A *sync* generator that Starlette drops when a client leaves is such a time bomb:
its `with ThreadPoolExecutor()` block is left at the next collection, and joins the pool on the loop's thread. A
`__del__` that joins, closes politely or logs is another.

Repair: make the stream an async generator, which is closed when the client leaves; keep the pool outside of it.
Give objects a `close()` that is called, and let `__del__` warn only.
"""

from __future__ import annotations

import re

from hangdebug.frames import calls, is_application, library_path
from hangdebug.model import Cause, Frame, Match, Verdict
from hangdebug.scene import Scene
from hangdebug.source import in_coroutine, in_generator, statement_at
from hangdebug.waits import Wait

FINALISERS = ("weakref.py:__call__", "weakref.py:_exitfunc")
# They run a generator because they were asked to. Any other library's frame below one means that nobody did.
DRIVERS = ("contextlib.py", "starlette/concurrency.py", "starlette/responses.py", "itertools.py", "functools.py")
# Functions that never call a generator: where they are below one that ends, the collector came by.
LOOP_ITSELF = tuple(f"asyncio/base_events.py:{name}" for name in (
    "_run_once", "run_forever", "run_until_complete", "call_soon", "_call_soon", "call_at", "call_later"))
SERVER = ("fastapi/", "starlette/middleware/", "starlette/applications.py", "uvicorn/protocols/", "uvicorn/middleware/", "h11/")
APPS = ("__call__", "app", "application", "asgi", "dispatch", "middleware")
ENDS = ("concurrent/futures/_base.py:__exit__",)
CONSUMES = (" in ", "*", "yield", "next(", "send(", "close(", "list(", "tuple(", "set(", "dict(", "sorted(", "sum(", "join(",
            "map(", "zip(", "any(", "all(", "max(", "min(", "extend(", "update(")
RANGE = re.compile(r"\bfor \w+ in range\(")
DROPS = re.compile(r"^del |= None$|\bcollect\(")


def match(verdict: Verdict, wait: Wait | None, scene: Scene) -> Match | None:
    if wait is None or wait.frame is None or verdict.state == "loop-busy":
        return None
    running = next((f for f in wait.view.section if f.name == "__del__" or calls(f, *FINALISERS)), None)
    if running is not None:
        return Match(frozenset({"frames"}), (f"It is in {running}, a finaliser: no line of the program calls it.",))
    stack, frame = wait.view.thread.frames, wait.view.section[len(wait.view.inner)]
    caller = next(iter(stack[stack.index(frame) + 1:]), None)
    sources = scene.evidence.sources
    if caller is None or wait.view.role != "event-loop" or in_coroutine(sources, frame):
        return None
    words = f"{frame.function} ends below {caller}, which does not call it: the garbage collector does."
    if in_generator(sources, wait.frame) and not drives(scene, caller, frame):
        return Match(frozenset({"frames", "source"}), ("It is a sync generator. " + words,))
    if wait.starts_with(*ENDS) and (calls(caller, *LOOP_ITSELF) or serves(caller) and frame.name not in APPS):
        return Match(frozenset({"frames"}), (words,))
    return None


def serves(caller: Frame) -> bool:
    """A frame of the server that calls ASGI applications, and nothing else of the application's."""
    path = library_path(caller.file) or ""
    return path.startswith(SERVER) and caller.name in ("__call__", "run_asgi") or path.startswith("h11/")


def drives(scene: Scene, caller: Frame, frame: Frame) -> bool:
    """Whether the caller may be what runs the generator: a loop over it, or a library that is made for it."""
    if not is_application(caller):
        return calls(caller, *DRIVERS)
    line = RANGE.sub("", statement_at(scene.evidence.sources, caller))
    if DROPS.search(line):
        return False
    lines = scene.evidence.sources.get(caller.file, {}).values()
    holders = {text.split("=")[0].strip() for text in lines if f"{frame.name}(" in text and "=" in text}
    named = any(re.search(rf"\b{re.escape(name)}\b", line) for name in {frame.name, *holders} if name.isidentifier())
    return not line or named or any(word in line for word in CONSUMES)


CAUSE = Cause(
    id="gc",
    title="a finaliser blocks the event loop's thread",
    match=match,
    snippet="stream_executor.py",
    confused_with={"executor-shutdown": "there a coroutine leaves the `with` block; here nobody called what runs."},
)
