"""Who a thread is, and a process, by its frames alone: a loop, a pool's worker, a supervisor, a forked child."""

from __future__ import annotations

from collections.abc import Iterable

from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, is_application, library_path, package
from hangdebug.evidence.libraries import (
    ANYIO_WORKER,
    CHILDREN,
    FORKED,
    LOOP,
    PARKED,
    POOL,
    POOL_NAME,
    POOL_WORKERS,
    SERVERS,
    SUPERVISORS,
    SUSPENDED,
    WORKER_CALLS,
    WORKERS,
)
from hangdebug.evidence.model import Frame, Snapshot, Thread
from hangdebug.evidence.vocabulary import Role

ANONYMOUS = re.compile(r"^(?:0x[0-9a-fA-F]+|\d+)$")  # faulthandler and home-made dumps name threads by address

AWAITS = ("await ", "async with ", "async for ", "return await ")  # a source line


def role_of(thread: Thread, snapshot: Snapshot, root: Thread | None = None) -> Role:
    """Who a thread of `snapshot` is; `root` is its main thread where no name or id tells, as `lone_root` finds it."""
    return role_in_stack(thread) or role_by_name(thread, snapshot, root)


def role_in_stack(thread: Thread) -> Role | None:
    """Who it is by its frames alone, None where they do not tell."""
    own = since_fork(thread.frames)
    if any(calls(frame, *LOOP) for frame in own):
        return "event-loop"
    if any(calls(frame, *POOL) for frame in own) or is_anyio_worker(thread):
        return "worker"
    return "other" if is_started(thread) else None


def role_by_name(thread: Thread, snapshot: Snapshot, root: Thread | None) -> Role:
    if POOL_NAME.match(thread.name):  # people paste the top of a stack only: then the name must do
        return "worker"
    if thread.name == "MainThread" or (thread.os_id is not None and thread.os_id == snapshot.pid):
        return "main"
    return "main" if thread is root else "other"


def is_started(thread: Thread) -> bool:
    """Whether `threading` started it: so it is no main thread."""
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
    return any(calls(frame, *CHILDREN) for thread in snapshot.threads for frame in thread.frames)


def is_anyio_worker(thread: Thread) -> bool:
    """Whether it belongs to AnyIO's pool, which Starlette runs `def` endpoints in."""
    bottom = [frame for frame in thread.frames if not calls(frame, "threading.py")][-1:]
    return any(calls(frame, ANYIO_WORKER) for frame in bottom)


def is_parked(frames: tuple[Frame, ...]) -> bool:
    """Whether a pool's thread waits for work: nothing but the pool's own machinery is on its stack."""
    rest = [frame for frame in frames if not calls(frame, *PARKED)]
    return bool(rest) and calls(rest[0], *POOL_WORKERS, ANYIO_WORKER, "multiprocessing/queues.py:get")


def is_suspended(thread: Thread) -> bool:
    """Whether it is a coroutine's stack and no thread's: it ends where coroutines wait, and no loop stands below."""
    inner = thread.frames[:1]
    waits = any(calls(frame, *SUSPENDED) or frame.text.startswith(AWAITS) for frame in inner)
    return waits and not any(calls(frame, *LOOP) for frame in thread.frames)


def ends_whole(frames: Iterable[Frame]) -> bool:
    """A whole stack of a main thread ends at a module: nothing was cut off below it."""
    return list(frames)[-1].name == "<module>" or calls(list(frames)[-1], "runpy.py", "<frozen runpy>")


def is_supervisor(snapshot: Snapshot) -> bool:
    """Whether the process only watches over workers: a thread is in a server's supervisor, none in a forked worker."""
    threads = snapshot.threads
    return any(stands_in(thread, SUPERVISORS) for thread in threads) and not any(map(is_workers_own, threads))


def is_workers_own(thread: Thread) -> bool:
    """Whether it is a thread of a server's worker, forked from the supervisor whose frames stand below."""
    return stands_in(thread, WORKERS) or any(calls(frame, *WORKER_CALLS) for frame in thread.frames)


def stands_in(thread: Thread, places: tuple[str, ...]) -> bool:
    """Whether a frame of its is in a file whose path in its library begins with one of `places`."""
    return any((library_path(frame.file) or "").startswith(places) for frame in thread.frames)


def supervises(snapshot: Snapshot) -> bool:
    """Whether its main thread stands in a server's supervisor, whatever loop another thread runs: gunicorn has one."""
    main = next(
        (
            one
            for one in snapshot.threads
            if (one.os_id is not None and one.os_id == snapshot.pid) or one.name == "MainThread"
        ),
        None,
    )
    if main is None or role_of(main, snapshot) != "main" or is_workers_own(main):
        return False
    inner = next((frame for frame in main.frames if is_application(frame) or package(frame) in SERVERS), None)
    return inner is not None and (library_path(inner.file) or "").startswith(SUPERVISORS)
