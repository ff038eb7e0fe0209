"""A finaliser runs on the event loop's thread, and blocks.

Nobody called it: Python did, when the last reference went away or when the garbage collector came by, on
whatever line of whatever thread. A *sync* generator that Starlette drops when a client leaves is such a time bomb:
its `with ThreadPoolExecutor()` block is left at the next collection, and joins the pool on the loop's thread. A
`__del__` that joins, closes politely or logs is another.

Repair: make the stream an async generator, which is closed when the client leaves; keep the pool outside of it.
Give objects a `close()` that is called, and let `__del__` warn only.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, is_application, library_path
from hangdebug.evidence.model import Frame
from hangdebug.evidence.source import in_coroutine, in_generator, statement_at
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

FINALISERS = ("weakref.py:__call__", "weakref.py:_exitfunc")
# They run a generator because they were asked to. Any other library's frame below one means that nobody did.
DRIVERS = (
    *(f"contextlib.py:{name}" for name in ("__enter__", "__exit__", "inner", "close", "_exit_wrapper", "_cb_wrapper")),
    *("starlette/concurrency.py", "starlette/responses.py", "itertools.py", "functools.py"),
)
# Where a stack alone has to do: the server's frames that call the application's own functions. Others do not.
SERVER = ("fastapi/", "starlette/", "uvicorn/", "h11/", "httptools/", "asyncio/base_events.py")
CALLS_HANDLERS = ("routing", "responses", "background", "endpoints", "middleware/base", "concurrency", "testclient")
CALLERS = (
    "fastapi/routing.py",
    "fastapi/dependencies/utils.py",
    "asyncio/base_events.py:call_exception_handler",
    *(f"starlette/{name}.py" for name in CALLS_HANDLERS),
)
APPS = ("__call__", "app", "application", "asgi", "dispatch", "middleware", "handler")
ENDS = ("concurrent/futures/_base.py:__exit__",)
CONSUMES = re.compile(
    r" in |\*|yield|"
    r"(?:next|send|close|list|tuple|set|dict|sorted|sum|join|map|zip|any|all|max|min|extend|update)\("
)
RANGE = re.compile(r"\bfor \w+ in range\(")
DROPS = re.compile(r"^del |= None$|\bcollect\(")
AT_EXIT = "weakref.py:_exitfunc"


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or wait.frame is None or seen.state == "loop-busy":
        return None
    if any(calls(frame, AT_EXIT) for frame in wait.view.thread.frames):
        return None  # not the collector calls it, but the interpreter that ends
    running = next((f for f in wait.view.section if f.name == "__del__" or calls(f, *FINALISERS)), None)
    if running is not None:
        return Match(frozenset({"frames"}), (f"It is in {running}, a finaliser: no line of the program calls it.",))
    stack, frame = wait.view.thread.frames, wait.view.section[len(wait.view.inner)]
    caller = next(iter(stack[stack.index(frame) + 1 :]), None)
    sources = scene.evidence.sources
    if caller is None or wait.view.role != "event-loop" or in_coroutine(sources, frame):
        return None
    words = f"{frame.function} ends below {caller}, which does not call it: the garbage collector does."
    if in_generator(sources, wait.frame) and not may_drive(scene, caller, frame):
        return Match(frozenset({"frames", "source"}), ("It is a sync generator. " + words,))
    if wait.starts_with(*ENDS) and serves_only(caller) and frame.name not in APPS:
        return Match(frozenset(), (words,))
    return None


def serves_only(caller: Frame) -> bool:
    """A frame of the server that has no reason to call a function of the application's that has its own name."""
    return (library_path(caller.file) or "").startswith(SERVER) and not calls(caller, *CALLERS)


def may_drive(scene: Scene, caller: Frame, frame: Frame) -> bool:
    """Whether the caller may be what runs the generator: a loop over it, or a library that is made for it."""
    if not is_application(caller):
        return calls(caller, *DRIVERS)
    line = RANGE.sub("", statement_at(scene.evidence.sources, caller))
    if DROPS.search(line):
        return False
    lines = scene.evidence.sources.get(caller.file, {}).values()
    holders = {text.split("=")[0].strip() for text in lines if f"{frame.name}(" in text and "=" in text}
    named = any(re.search(rf"\b{re.escape(name)}\b", line) for name in {frame.name, *holders} if name.isidentifier())
    return not line or named or bool(CONSUMES.search(line))


CAUSE = Cause(
    id="gc",
    title="a finaliser blocks the event loop's thread",
    match=match,
    snippet="stream_executor.py",
    confused_with={"executor-shutdown": "there a coroutine leaves the `with` block; here nobody called what runs."},
)
