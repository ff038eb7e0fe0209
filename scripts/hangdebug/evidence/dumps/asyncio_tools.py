"""Python 3.14's own tools: `python -m asyncio ps PID` (a table) and `python -m asyncio pstree PID` (a tree).

32581   0x7f93   save-1   Lock.acquire -> Store.audit -> Store.save   main   Task-1   0x7f92

└── (T) save-1
    └──  Store.save /srv/app.py:6
        └──  Lock.acquire /usr/lib/python3.14/asyncio/locks.py:110
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from hangdebug.evidence import light as re
from hangdebug.evidence.dumps.grammar import Head, python_of, unread
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
    rows = table(kept)
    found = rows or tree(kept)
    if not found:
        return ()
    left = unread(kept, of_table if rows else of_tree)
    stacks = [Thread(task.frames) for task in found]
    return (Snapshot((), None, "", python_of(stacks), "python -m asyncio", left, tuple(found)),)


def of_table(line: str) -> bool:
    """Whether it is a row of the table, its heads or the rule below them."""
    return bool(ROW.match(line[:4000])) or line.lstrip().startswith(("tid ", "---"))


def of_tree(line: str) -> bool:
    """Whether it is a branch of the tree."""
    return any(mark in line for mark in ("(T) ", "\u2514", "\u251c", "\u2502", "`--", "+--"))


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
            made.append((line.partition("(T) ")[2][:1000].strip(), []))
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


# -- asyncio's debug log -------------------------------------------------------------------------------

TASK = re.compile(
    r"<(?:[A-Z]\w{0,40}\.)?Task (?P<state>[\w ]{1,40}?)(?: name=(?P<quote>['\"])(?P<name>.{0,200}?)(?P=quote))? "
    r"coro=<(?P<coroutine>[\w.<>-]{1,300})\(\)"
    r"(?: (?:running at|running, defined at|done, defined at|suspended at) "
    r"(?P<file>[^>\n]{1,500}?):(?P<line>\d{1,9}))?>"
)
WAITS = re.compile(r"[^>]{0,400}?wait_for=<(?P<what>[^<>]{1,200}?)(?: cb=| coro=| created at|>)")
TOOK = re.compile(r"took (?P<seconds>\d{1,9}(?:\.\d{1,6})?) ?s(?:econds?)?\b")
# The same line as people and log viewers shorten it: without the state, without the place.
SHORT = re.compile(
    r"Executing <Task(?:[ -](?P<name>Task-\d{1,9}|\d{1,9}))?(?: pending| finished| cancelled)?"
    r"(?: name=['\"](?P<named>[^'\"]{1,200})['\"])?\s+(?:coro=)?<?(?P<coroutine>[A-Za-z_][\w.<>]{0,300})\(\)"
)
HANDLE = re.compile(
    r"Executing <(?:Timer)?Handle (?:when=[\d.]{1,30} )?(?P<function>[\w.<>-]{1,300})\([^()\n]{0,300}\)"
    r"(?: at (?P<file>[^>\n]{1,500}?):(?P<line>\d{1,9}))?"
)
# A row of aiomonitor's `ps`: | 139712233450992 | PENDING | sync-eu | Replicator.pull() | ...
PS_ROW = re.compile(
    r"^\s{0,8}[|\u2502]\s*(?:0x)?[0-9a-f]{1,20}\s*[|\u2502]\s*(?P<state>[A-Za-z]{1,20})\s*[|\u2502]\s*(?P<name>[^|\u2502]{1,200}?)\s*"
    r"[|\u2502]\s*(?P<coroutine>[A-Za-z_][\w.<>]{0,300})\(?"
)


def read_debug_log(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot with a Task for every task that is shown; its state tells how long it held the loop."""
    lines = list(lines)
    different = list(dict.fromkeys(lines))
    found = [task for line in different if shows_task(line) for task in tasks_in_line(line[:20_000])]
    for row in (one for line in different for one in [PS_ROW.match(line[:1000])] if one):
        coroutine = row["coroutine"]
        found.append(Task(row["name"], (Frame(coroutine, UNKNOWN),), "", row["state"].lower(), coroutine))
    if not found:
        return ()
    stacks = [Thread(task.frames) for task in found]
    left = unread(lines, lambda line: shows_task(line) or PS_ROW.match(line[:1000]))
    return (Snapshot((), None, "", python_of(stacks), "asyncio debug", left, tuple(dict.fromkeys(found))),)


def shows_task(line: str) -> bool:
    return "<Task " in line or "Executing <" in line


def tasks_in_line(line: str) -> list[Task]:
    took = TOOK.search(line) if "Executing <" in line else None
    state = f"took {took['seconds']} seconds" if took else ""
    found = [
        Task(one.name, one.frames, one.waits_on, state or one.state, one.coroutine)
        for one in heads_of_tasks(line)
        if one.frames
    ]
    short = SHORT.search(line) if took and not found else None
    if short:
        name = short["named"] or (f"Task-{short['name'].rpartition('-')[2]}" if short["name"] else short["coroutine"])
        return [Task(name, (Frame(short["coroutine"], UNKNOWN),), "", state, short["coroutine"])]
    handle = HANDLE.search(line) if took and not found else None
    if handle and handle["file"]:
        frame = Frame(handle["function"], handle["file"], int(handle["line"]) or None)
        found.append(Task(handle["function"], (frame,), "", state, handle["function"]))
    return found


def head(line: str) -> Head | None:
    """A line that begins the stack of a task."""
    if " for <" not in line[:200] or "most recent call" not in line:
        return None
    found = next(heads_of_tasks(line[:4000]), None)
    if found is None:
        return None
    order = "first" if "most recent call first" in line else "last"
    return replace(found, order=order)


def heads_of_tasks(line: str) -> Iterator[Head]:
    """A Head for every task that the line shows, with the one frame that it names."""
    for found in TASK.finditer(line):
        waits = WAITS.match(line, found.end())
        place = [Frame(found["coroutine"], found["file"], int(found["line"]) or None)] if found["file"] else []
        yield Head(
            "task",
            found["name"] or found["coroutine"],
            state=found["state"],
            coroutine=found["coroutine"],
            waits_on=waits["what"].strip() if waits else "",
            frames=tuple(place),
        )
