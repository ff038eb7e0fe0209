"""A dump seen from one event loop: which thread runs it, what that thread is in, who works for it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Iterable, Mapping

from hangdebug.evidence.frames import calls, is_application, is_known_library, library_path, package
from hangdebug.evidence.model import Evidence, Frame, KernelWait, Process, Snapshot, Thread
from hangdebug.evidence.source import called, in_coroutine, in_generator, statement_at

LOOP = (
    "asyncio/base_events.py:_run_once",
    "asyncio/base_events.py:run_forever",
    "asyncio/base_events.py:run_until_complete",
    "asyncio/runners.py:run",
    "asyncio/windows_events.py:run_forever",
    "uvloop/__init__.py:run",
    "nest_asyncio.py:_run_once",
    "nest_asyncio.py:run_until_complete",
    "trio/_core/_run.py:run",
    "trio/_core/_run.py:unrolled_run",
    "uvicorn/server.py:run",
    "uvicorn/server.py:serve",
    "uvicorn/_compat.py:asyncio_run",
    "hypercorn/asyncio/run.py:_run",
    "aiohttp/web.py:run_app",
    "aiohttp/worker.py:run",
    "sanic/server/runners.py:_run_server_forever",
    "sanic/server/runners.py:_serve_http_1",
    "sanic/server/runners.py:_serve_http_3",
    "tornado/platform/asyncio.py:start",
    "twisted/internet/asyncioreactor.py:run",
    "taskgroup/runners.py:run",
    *(
        f"granian/server/{kind}.py:_spawn_{protocol}_worker"
        for kind in ("mp", "mt")
        for protocol in ("asgi", "asgi_lifespan", "rsgi", "rsgi_lifespan")
    ),
)
RUNS_LOOP = frozenset("asyncio.run uvloop.run anyio.run".split())
RUNS_ITS_LOOP = frozenset("run_until_complete run_forever".split())  # methods of a loop, whatever its name
EPOLL = ("epoll_wait", "epoll_pwait", "epoll_pwait2")
POLL = (
    "selectors.py:select",
    "selectors.py:_select",
    "asyncio/windows_events.py:select",
    "asyncio/windows_events.py:_poll",
    "trio/_core/_io_epoll.py:get_events",
)
HANDLE = ("asyncio/events.py:_run",)
POOL = (
    "concurrent/futures/thread.py:_worker",
    "concurrent/futures/thread.py:run",
    "multiprocessing/pool.py:worker",
    "concurrent/futures/process.py:_process_worker",
)
ANYIO_WORKER = "anyio/_backends/_asyncio.py:run"
POOL_NAME = re.compile(r"^(?:AnyIO worker thread|(?:asyncio|uvloop|ThreadPoolExecutor-\d{1,6})_\d{1,6})$")
MOST_LOOPS = 8
PARKED = ("queue.py:get", "threading.py:wait")
# A forked child keeps its parent's stack below these frames: it does not run the loop that stands there.
FORKED = ("multiprocessing/process.py:_bootstrap", "concurrent/futures/process.py:_process_worker", "os.py:fork")
SERVERS = frozenset("uvicorn hypercorn gunicorn granian daphne starlette fastapi aiohttp sanic quart litestar".split())
ASYNC = SERVERS | frozenset("asyncio anyio uvloop trio asgiref sse_starlette".split())
ANONYMOUS = re.compile(r"^(?:0x[0-9a-fA-F]+|\d+)$")  # faulthandler and home-made dumps name threads by address
SERVES = frozenset("wrap app run_asgi run_endpoint_function stream_response".split())  # run inside of a loop alone
# Where coroutines stand while they are suspended: no thread does, so such a stack is a task's.
SUSPENDED = (
    "asyncio/locks.py",
    "asyncio/queues.py",
    "asyncio/tasks.py:sleep",
    "asyncio/futures.py:__await__",
    "asyncio/streams.py",
    "anyio/_backends/_asyncio.py:wait",
    "anyio/streams/memory.py",
)
SYNCHRONOUS = (
    "gunicorn/workers/sync.py",
    "gunicorn/workers/gthread.py",
)  # the one server that has both kinds of worker
SUPERVISORS = ("uvicorn/supervisors/", "gunicorn/arbiter.py", "hypercorn/run.py", "granian/server/")
WORKERS = ("gunicorn/workers/",)  # forked from the supervisor: its frames stand below theirs

LAST: list[tuple[Evidence, tuple[Scene, ...]]] = []


@dataclass(frozen=True)
class View:
    """One thread in one sample. `section` holds the frames inside of the loop's or the pool's machinery.

    `frame` is the innermost one of the application, `inner` the library calls that it made, innermost first;
    `idle` means that the loop runs no frame, or that the worker waits for work.
    """

    thread: Thread
    role: str
    section: tuple[Frame, ...]
    frame: Frame | None
    inner: tuple[Frame, ...]
    idle: bool
    kernel: KernelWait | None = None
    twin: int = 0  # how many threads before it in the same sample bear the same name, or none

    @property
    def key(self) -> tuple:
        """Equal in two samples when the thread is in the same place."""
        return (self.frame, tuple((frame.function, frame.file) for frame in self.inner))


@dataclass(frozen=True)
class Scene:
    """All samples seen from one event loop. `loop` holds its thread once a sample, and is () without a loop.

    `guessed` is why the loop's thread had to be guessed, "" when its frames show it.
    """

    evidence: Evidence
    samples: tuple[tuple[View, ...], ...]
    by_thread: Mapping[object, tuple[View, ...]]
    loop: tuple[View, ...] = ()
    guessed: str = ""

    @property
    def last(self) -> tuple[View, ...]:
        return self.samples[-1]

    def of(self, view: View) -> tuple[View, ...]:
        """The same thread in every sample that has it."""
        return self.by_thread[identity(view)]

    def threads(self, role: str) -> tuple[View, ...]:
        return tuple(view for view in self.last if view.role == role)

    def shows(self, *places: str) -> View | None:
        """The first thread of the last sample that has one of these library calls anywhere in its stack."""
        return next((v for v in self.last if any(calls(f, *places) for f in v.thread.frames)), None)


def scene(evidence: Evidence) -> Scene:
    """The scene of the server's own loop."""
    return scenes(evidence)[0]


def scenes(evidence: Evidence) -> tuple[Scene, ...]:
    """One scene for each event loop, the server's own first; one with an empty `loop` where there is none.

    Those of the last evidence are kept: its picture is drawn after its diagnosis, and ten thousand threads take seconds.
    """
    for known, found in LAST:
        if known is evidence:
            return found
    found = looked_at(evidence)
    LAST[:] = [(evidence, found)]
    return found


def looked_at(evidence: Evidence) -> tuple[Scene, ...]:
    samples = tuple(views(evidence, index) for index in range(len(evidence.snapshots)))
    loops = sorted((v for v in samples[-1] if v.role == "event-loop"), key=importance, reverse=True)
    guessed = ""
    if not loops:
        chosen, guessed = cut_loop(evidence, samples)
        if chosen is not None:
            loops = [chosen]
            samples = tuple(tuple(as_loop(v) if identity(v) == identity(chosen) else v for v in s) for s in samples)
    index = by_thread(samples)
    runs = [tuple(v for v in index[identity(one)] if v.role == "event-loop") for one in loops[:MOST_LOOPS]]
    return tuple(Scene(evidence, samples, index, run, guessed) for run in runs) or (Scene(evidence, samples, index),)


def by_thread(samples: tuple[tuple[View, ...], ...]) -> dict[object, tuple[View, ...]]:
    """The views of each thread in the order of the samples."""
    found: dict[object, list[View]] = {}
    for sample in samples:
        for one in sample:
            found.setdefault(identity(one), []).append(one)
    return {key: tuple(same) for key, same in found.items()}


def views(evidence: Evidence, index: int) -> tuple[View, ...]:
    snapshot = evidence.snapshots[index]
    reading = evidence.attached[index] if index < len(evidence.attached) else None
    waits = reading.waits if reading else {}
    seen: Counter = Counter()
    main = lone_root(snapshot)
    made = []
    for thread in snapshot.threads:
        if thread.frames:
            role = role_of(thread, snapshot, main)
            border = written_loop(evidence, thread.frames) if role in ("main", "other") else None
            one = view(thread, role if border is None else "event-loop", waits.get(thread.os_id or -1), border)
            idle = one.idle or one.role == "event-loop" and polls_its_own(one.kernel, evidence.process)
            made.append(replace(one, twin=seen[thread.name], idle=idle))
            seen[thread.name] += thread.os_id is None
    return tuple(made)


def polls_its_own(kernel: KernelWait | None, process: Process) -> bool:
    """Whether it waits for events of the server's own loop, whatever its stack: nest_asyncio runs it from a handler."""
    return kernel is not None and kernel.syscall in EPOLL and kernel.args[:1] != () and kernel.args[0] in process.polls


def written_loop(evidence: Evidence, frames: tuple[Frame, ...]) -> int | None:
    """How many frames stand inside of a loop that only the source shows: one written in C has no frame of its own."""
    for index in reversed(range(len(frames))):
        if is_application(frames[index]):
            names = called(statement_at(evidence.sources, frames[index]))
            if names & RUNS_LOOP or any(name.rpartition(".")[2] in RUNS_ITS_LOOP for name in names):
                return index
    return None


def view(thread: Thread, role: str, kernel: KernelWait | None = None, border: int | None = None) -> View:
    """`border` is how many frames stand inside of the loop, where no frame shows it."""
    frames = since_fork(thread.frames)
    section = (
        frames[:border]
        if border is not None
        else loop_section(frames)
        if role == "event-loop"
        else pool_section(frames, role)
    )
    application = [index for index, frame in enumerate(section) if is_application(frame)]
    if not application:  # perhaps the application is installed as a package, as in many images
        application = [index for index, frame in enumerate(section) if not is_known_library(frame)]
    first = application[0] if application else None
    frame = None if first is None else section[first]
    idle = role == "worker" and is_parked(thread.frames)
    if role == "event-loop":  # a loop written in C (uvloop) has no frame of its own: then the kernel shows it poll
        idle = not section or frame is None and kernel is not None and kernel.syscall in EPOLL
    return View(thread, role, section, frame, section[:first], idle, kernel)


def role_of(thread: Thread, snapshot: Snapshot, root: Thread | None = None) -> str:
    own = since_fork(thread.frames)
    if any(calls(frame, *LOOP) for frame in own):
        return "event-loop"
    if any(calls(frame, *POOL) for frame in own) or is_anyio_worker(thread):
        return "worker"
    if is_started(thread):
        return "other"
    if POOL_NAME.match(thread.name):  # people paste the top of a stack only: then the name must do
        return "worker"
    if thread.name == "MainThread" or thread.os_id is not None and thread.os_id == snapshot.pid:
        return "main"
    return "main" if thread is root else "other"


def is_started(thread: Thread) -> bool:
    return any(calls(frame, "threading.py:_bootstrap") for frame in thread.frames)


def lone_root(snapshot: Snapshot) -> Thread | None:
    """The main thread of a dump that names no thread: the only one that threading did not start.

    A lone stack may be any thread's whose lower end was cut off, unless it goes down to a module.
    """
    if any(one.name and not ANONYMOUS.match(one.name) for one in snapshot.threads):
        return None
    roots = [one for one in snapshot.threads if one.frames and not is_started(one)]
    alone = len(snapshot.threads) == 1
    return roots[0] if len(roots) == 1 and not (alone and not ends_whole(roots[0].frames)) else None


def since_fork(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The frames that this process runs itself, without those that it inherited from its parent."""
    border = next((index for index, frame in enumerate(frames) if calls(frame, *FORKED)), len(frames))
    return frames[:border]


def is_child(snapshot: Snapshot) -> bool:
    """Whether the process is a child that multiprocessing or a process pool started."""
    return any(calls(frame, *FORKED[:2]) for thread in snapshot.threads for frame in thread.frames)


def is_anyio_worker(thread: Thread) -> bool:
    bottom = [frame for frame in thread.frames if not calls(frame, "threading.py")][-1:]
    return any(calls(frame, ANYIO_WORKER) for frame in bottom)


def is_parked(frames: tuple[Frame, ...]) -> bool:
    """Whether a pool's thread waits for work: nothing but the pool's own machinery is on its stack."""
    rest = [frame for frame in frames if not calls(frame, *PARKED)]
    return (
        calls(
            rest[0],
            "concurrent/futures/thread.py:_worker",
            ANYIO_WORKER,
            "multiprocessing/pool.py:worker",
            "concurrent/futures/process.py:_process_worker",
            "multiprocessing/queues.py:get",
        )
        if rest
        else False
    )


def loop_section(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The frames inside of the loop: all of them if it has none, () if it only polls.

    A loop nested in another one's handler (nest_asyncio) belongs to the section of the outer loop.
    """
    border = len(frames)
    for index in reversed(range(len(frames))):
        if calls(frames[index], *LOOP):
            border = index
        elif border < len(frames) and is_application(frames[index]):
            break
    inside = [frame for frame in frames[:border] if not calls(frame, *HANDLE)]
    return () if all(calls(frame, *POLL) for frame in inside) else tuple(inside)


def pool_section(frames: tuple[Frame, ...], role: str) -> tuple[Frame, ...]:
    keep = len(frames)
    while keep and (
        calls(frames[keep - 1], "threading.py:_bootstrap", "threading.py:_bootstrap_inner", *POOL, "threading.py:run")
        or role == "worker"
        and calls(frames[keep - 1], ANYIO_WORKER)
    ):
        keep -= 1
    return frames[:keep]


def importance(view: View) -> tuple[bool, bool, bool]:
    """Several threads can run a loop: the server's comes first, then the main thread's."""
    return (
        any(package(frame) in SERVERS for frame in view.thread.frames),
        view.thread.name == "MainThread",
        not any(calls(frame, *POOL) for frame in view.thread.frames),
    )


def cut_loop(evidence: Evidence, samples: tuple[tuple[View, ...], ...]) -> tuple[View | None, str]:
    """The main thread, if it must be the loop's although its stack shows no loop, and why.

    CPython 3.9 drops the frames below a coroutine into which an exception was thrown, which is what a
    client's disconnect does; people also paste the top of a stack only.
    """
    main = next((v for v in samples[-1] if v.role == "main"), None)
    if main is None and len(samples[-1]) == 1:  # a lone stack, perhaps without its header
        main = samples[-1][0] if samples[-1][0].role == "other" else None
    if main is None or calls(main.thread.frames[-1], "threading.py") or calls(main.thread.frames[0], *SUSPENDED):
        return None, ""
    if any(calls(frame, *SYNCHRONOUS) for frame in main.thread.frames):
        return None, ""
    if len(main.thread.frames) > len(since_fork(main.thread.frames)):  # a child: that loop is its parent's
        return None, ""
    if any(frame.name in SERVES and package(frame) in ASYNC for frame in main.thread.frames):  # gdb can miss frames
        return main, "its frames are those of an async server"
    if ends_whole(main.thread.frames):
        return None, ""
    if whole(evidence.snapshots[-1]):
        return None, ""
    bottom = main.thread.frames[-1]
    if evidence.snapshots[-1].format == "py-spy JSON" and not_cut(evidence, bottom):
        return None, ""
    if any(in_coroutine(evidence.sources, frame) for frame in main.thread.frames):
        return main, "its source shows a coroutine"
    if any(package(frame) in ASYNC for frame in main.thread.frames):
        return main, "its frames are those of an async server"
    if evidence.process.server or any(view.role == "worker" and is_anyio_worker(view.thread) for view in samples[-1]):
        return main, "the process is an async server"
    return None, ""


def not_cut(evidence: Evidence, bottom: Frame) -> bool:
    """Whether CPython 3.9 cannot have dropped frames below this one: it does so below coroutines and generators alone."""
    return in_coroutine(evidence.sources, bottom) is False and not in_generator(evidence.sources, bottom)


def ends_whole(frames: Iterable[Frame]) -> bool:
    """A whole stack of a main thread ends at a module: nothing was cut off below it."""
    return list(frames)[-1].name == "<module>" or calls(list(frames)[-1], "runpy.py", "<frozen runpy>")


def whole(snapshot: Snapshot) -> bool:
    """Whether its stacks must be complete: read by py-spy from a CPython that does not cut them."""
    minor = (snapshot.python or "3.9").split(".")[1:2]
    return snapshot.format == "py-spy JSON" and bool(minor) and minor[0].isdigit() and int(minor[0]) > 9


def as_loop(view_: View) -> View:
    return replace(view(view_.thread, "event-loop", view_.kernel), twin=view_.twin)


def identity(view_: View) -> object:
    """What tells a thread from the others in every sample: the kernel's id, or its name where a dump has none."""
    return view_.thread.os_id if view_.thread.os_id is not None else (view_.thread.name, view_.twin)


def is_supervisor(snapshot: Snapshot) -> bool:
    """Whether the process only watches over workers: its stack is in a server's supervisor, and not in a forked worker."""
    threads = snapshot.threads
    return any(stands_in(thread, SUPERVISORS) for thread in threads) and not any(
        stands_in(thread, WORKERS) for thread in threads
    )


def stands_in(thread: Thread, places: tuple[str, ...]) -> bool:
    return any((library_path(frame.file) or "").startswith(places) for frame in thread.frames)


def supervises(snapshot: Snapshot) -> bool:
    """Whether its main thread stands in a server's supervisor, whatever loop another thread runs: gunicorn has one."""
    main = next(
        (
            one
            for one in snapshot.threads
            if one.os_id is not None and one.os_id == snapshot.pid or one.name == "MainThread"
        ),
        None,
    )
    if main is None or role_of(main, snapshot) != "main":
        return False
    inner = next((frame for frame in main.frames if is_application(frame) or package(frame) in SERVERS), None)
    return inner is not None and (library_path(inner.file) or "").startswith(SUPERVISORS)
