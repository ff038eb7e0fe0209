"""Whose frame is it: the standard library's, an installed package's, or the application's own."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import lru_cache

from hangdebug.evidence import light as re
from hangdebug.evidence.libraries import (
    ANYIO_WORKER,
    CHILDREN,
    FAMILIAR,
    FORKED,
    INSTALLED_TOPS,
    KNOWN_TOPS,
    LOOP,
    PACKAGES,
    PARKED,
    POOL,
    POOL_NAME,
    POOL_WORKERS,
    SERVERS,
    SUPERVISORS,
    SUSPENDED,
    UNLIKELY_NAMES,
    WORKER_CALLS,
    WORKERS,
)
from hangdebug.evidence.model import Frame, Snapshot, Task, Thread
from hangdebug.evidence.vocabulary import Role

INSTALLED = re.compile(r"^.*[/\\](?:site|dist)-packages[/\\](?:.*\.egg[/\\])?(?P<tail>.+)$")
STANDARD = re.compile(
    r"^.*[/\\](?:lib|lib64|Lib)[/\\](?:(?:python|pypy)[23]\.\d+t?[/\\](?:lib-dynload[/\\])?)(?P<tail>.+)$"
)
WINDOWS = re.compile(r"^[A-Za-z]:\\.*\\Lib\\(?P<tail>.+)$", re.IGNORECASE)
# People cut what is private or long off a path: `.../concurrent/futures/_base.py`.
ELIDED = re.compile(
    r"^(?:\.{2,3}|\u2026)[/\\](?:lib(?:64)?[/\\])?(?:Lib[/\\]|(?:python|pypy)[23][\d.]*t?[/\\])?(?P<tail>.+)$"
)
# Nuitka keeps the standard library beside the application: shop.dist/socketserver.py.
FROZEN = re.compile(r"^.*[/\\](?:[^/\\]+\.dist|onefile_[^/\\]+)[/\\](?P<tail>.+)$")
# A checkout of a library bears its name: /opt/odoo/odoo/sql_db.py.
CHECKOUT = re.compile(r"^.*[/\\](?P<top>\w+)[/\\](?P<tail>(?P=top)[/\\].+)$")
VIRTUAL = re.compile(r"^<(?!stdin|ipython|input)[^>]*>$")
UNKNOWN = "?"  # stands for the file of an application's function, where a list of tasks names the function alone
SCRIPT = re.compile(r"(?:^|[/\\])(?:bin|Scripts)[/\\][\w.+-]+$")


@lru_cache(maxsize=65536)
def library_path(file: str) -> str | None:
    """Where in its library a file stands, as in "concurrent/futures/thread.py"; None for the application's.

    Works on full paths (POSIX and Windows) and on the short names that py-spy's text has.
    """
    if file == UNKNOWN:
        return None
    for pattern in (INSTALLED, STANDARD, WINDOWS):
        found = pattern.match(file)
        if found:
            return found["tail"].replace("\\", "/")
    frozen = FROZEN.match(file)
    if frozen and re.split(r"[/\\.]", frozen["tail"])[0] in KNOWN_TOPS:
        return frozen["tail"].replace("\\", "/")
    checkout = CHECKOUT.match(file)
    if checkout and checkout["top"] in INSTALLED_TOPS:
        return checkout["tail"].replace("\\", "/")
    if VIRTUAL.match(file) or SCRIPT.search(file):
        return file
    cut = ELIDED.match(file)
    path = (cut["tail"] if cut else file).replace("\\", "/")
    if path.startswith(("/", "<")) or re.match(r"^[A-Za-z]:/", path):
        return None
    top = path.split("/")[0]
    if ("/" not in path and "." not in path) or top.endswith((".so", ".pyx", ".dylib")):  # a console script, a C file
        return path
    stem = top.removesuffix(".py")
    return path if stem in KNOWN_TOPS or ("/" in path and top in PACKAGES) else None


def different(stacks: Iterable[Thread | Task]) -> Collection[tuple[Frame, ...]]:
    """Their frames in order, of those that share them once: ten thousand threads have few different stacks."""
    return {id(one.frames): one.frames for one in stacks}.values()


def is_application(frame: Frame) -> bool:
    return library_path(frame.file) is None


def is_known_library(frame: Frame) -> bool:
    """True for the standard library and packages that everybody knows: never a company's own, installed one."""
    path = library_path(frame.file)
    if path is None:
        return False
    return not INSTALLED.match(frame.file) or re.split(r"[/.]", path)[0] in INSTALLED_TOPS


def package(frame: Frame) -> str:
    """The top-level package or module of a library frame ("urllib3"), "" for the application's."""
    path = library_path(frame.file) or ""
    top = path.split("/")[0]
    return top.removesuffix(".py")


def calls(frame: Frame, *places: str) -> bool:
    """Whether `frame` is one of `places`, each "module/path.py:function" or "module/path.py" for all of it."""
    path = library_path(frame.file)
    return path is not None and (path in places or f"{path}:{frame.name}" in places)


# -- libraries whose path was made neutral -------------------------------------------------------------

FUNCTIONS = {path: frozenset(functions.split()) for path, functions in FAMILIAR.items()}
PATHS_OF = {name: [path for path in FUNCTIONS if name in FUNCTIONS[path]] for name in set().union(*FUNCTIONS.values())}


def with_familiar_paths(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The frames, innermost first, with the path in its library where file name and function show whose a frame is.

    People make paths neutral, or cut them to the file's name. An application may have a `queue.py` of its own: a name
    that is likely counts only where the frame calls a library's, and a path with folders only where these agree.
    """
    if not any(frame.name in PATHS_OF and is_application(frame) for frame in frames):
        return frames
    bare = all("/" not in frame.file and "\\" not in frame.file for frame in frames)
    made: list[Frame] = []
    for frame in frames:
        tail = familiar(frame, bare) if is_application(frame) else None
        name = frame.file.replace("\\", "/").rpartition("/")[2]
        sure = name in UNLIKELY_NAMES or (tail is not None and not bare and "/" in tail)
        calls_library = (bool(made) and not is_application(made[-1])) or not made
        made.append(replace(frame, file=tail) if tail and (sure or calls_library) else frame)
    return tuple(made)


def familiar(frame: Frame, bare: bool) -> str | None:
    """The path of the library's file that has this name and this function; None where there is none."""
    file = "/" + frame.file.replace("\\", "/")
    paths = PATHS_OF.get(frame.name, ())
    return next((path for path in paths if file.endswith(f"/{path.rpartition('/')[2]}" if bare else f"/{path}")), None)


# -- who a thread is -----------------------------------------------------------------------------------
# Who a thread is, and a process, by its frames alone: a loop, a pool's worker, a supervisor, a forked child.

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
    bottom = next((frame for frame in reversed(thread.frames) if not calls(frame, "threading.py")), None)
    return bottom is not None and calls(bottom, ANYIO_WORKER)


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
