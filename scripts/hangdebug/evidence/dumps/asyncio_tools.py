"""Python 3.14's own tools: `python -m asyncio ps PID` (a table) and `python -m asyncio pstree PID` (a tree).

32581   0x7f93   save-1   Lock.acquire -> Store.audit -> Store.save   main   Task-1   0x7f92

└── (T) save-1
    └──  Store.save /srv/app.py:6
        └──  Lock.acquire /usr/lib/python3.14/asyncio/locks.py:110
"""

from __future__ import annotations

import re
from typing import Iterable

from hangdebug.evidence.dumps.grammar import python_of
from hangdebug.evidence.frames import UNKNOWN
from hangdebug.evidence.model import Frame, Snapshot, Task, Thread

ROW = re.compile(r"^\s{0,20}(?P<tid>\d{1,10})\s{1,40}(?P<id>0x[0-9a-f]{1,16})\s{1,40}(?P<rest>\S.*)$")
COLUMN = re.compile(r"\s{2,}")
CALLS = re.compile(r"[\w.<>-]{1,300}(?: -> [\w.<>-]{1,300})*")
BRANCH = re.compile(r"^[\s\u2500-\u257f|`+*>-]{0,400}?(?P<what>[^\s\u2500-\u257f|`+*>-].*)$")
CALL = re.compile(r"^(?P<function>[\w.<>-]{1,300})(?: (?P<file>[^\n]{1,1000}?):(?P<line>\d{1,9}))?$")

# The table names functions without their files. These are asyncio's, and those of servers and frameworks.
FUNCTIONS = {
    **dict.fromkeys("sleep wait_for wait _wait gather shield".split(), "asyncio/tasks.py"),
    **dict.fromkeys("run_sync run_in_threadpool".split(), "anyio/to_thread.py"),
    **dict.fromkeys("lifespan serve create_collapsing_task_group".split(), "starlette/routing.py"),
    "run_endpoint_function": "fastapi/routing.py",
}
CLASSES = {
    **dict.fromkeys("Queue PriorityQueue LifoQueue".split(), "asyncio/queues.py"),
    **dict.fromkeys(
        "Lock Event Condition Semaphore BoundedSemaphore Barrier _ContextManagerMixin".split(), "asyncio/locks.py"
    ),
    "TaskGroup": "asyncio/taskgroups.py",
    "Timeout": "asyncio/timeouts.py",
    "StreamReader": "asyncio/streams.py",
    "StreamWriter": "asyncio/streams.py",
    "_AsyncGeneratorContextManager": "contextlib.py",
    **dict.fromkeys("AsyncIOBackend TaskHandle CapacityLimiter".split(), "anyio/_backends/_asyncio.py"),
    "Server": "uvicorn/server.py",
    **dict.fromkeys("LifespanOn RequestResponseCycle ProxyHeadersMiddleware".split(), "uvicorn/server.py"),
    **dict.fromkeys("FastAPI APIRouter APIRoute".split(), "fastapi/routing.py"),
    **dict.fromkeys(
        "Starlette Router Route Mount StreamingResponse BaseHTTPMiddleware".split(), "starlette/routing.py"
    ),
    **dict.fromkeys(
        "ServerErrorMiddleware ExceptionMiddleware ExceptionTelemetryMiddleware AsyncExitStackMiddleware "
        "AppBodyLimitMiddleware CORSMiddleware GZipMiddleware".split(),
        "starlette/middleware/base.py",
    ),
}
FRAMEWORKS = re.compile(
    r"^(?:request_response|wrap_app_handling_exceptions|get_request_handler|lifespan)\.<locals>\.|"
    r"^(?:starlette|fastapi|anyio|uvicorn|asyncio)\.|^Base\w*EventLoop\."
)


def file_of(function: str) -> str:
    """The file of a library's function; UNKNOWN for one of the application's."""
    owner = function.rpartition(".")[0]
    if FRAMEWORKS.match(function):
        return "starlette/routing.py"
    return (CLASSES.get(owner) if owner else FUNCTIONS.get(function)) or UNKNOWN


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot that has tasks and no threads."""
    kept = list(lines)
    found = table(kept) or tree(kept)
    stacks = [Thread(task.frames) for task in found]
    return (Snapshot((), None, "", python_of(stacks), "python -m asyncio", (), tuple(found)),) if found else ()


def table(lines: list[str]) -> list[Task]:
    made = []
    for line in lines:
        row = ROW.match(line[:4000]) if "0x" in line[:80] else None
        if not row:
            continue
        name, *cells = COLUMN.split(row["rest"].strip(), 2)
        # A wide stack leaves one space before the awaiter's chain: the stack ends where no arrow follows.
        words = cells[0] if cells else ""
        calls = CALLS.match(words)
        if not calls or words.startswith("0x"):
            continue
        frames = tuple(Frame(one, file_of(one)) for one in calls[0].split(" -> "))
        made.append(Task(name, frames, frames[0].function, "", frames[-1].function))
    return made


def tree(lines: list[str]) -> list[Task]:
    """A task's frames stand below it, outermost first, up to the next task; a deeper task awaits nothing of it."""
    made: list[tuple[str, list[Frame]]] = []
    for line in lines:
        if "(T) " in line:
            made.append((line[:1000].split("(T) ", 1)[1].strip(), []))
        elif made and any(mark in line for mark in ("\u2514", "\u251c", "`--", "+--")):
            found = BRANCH.match(line[:2000])
            call = CALL.match(found["what"].strip()) if found else None
            if call and call["file"]:
                made[-1][1].append(Frame(call["function"], call["file"], int(call["line"]) or None))
    return [
        Task(
            name,
            tuple(reversed(frames)),
            frames[-1].function if frames else "",
            "",
            frames[0].function if frames else "",
        )
        for name, frames in made
    ]
