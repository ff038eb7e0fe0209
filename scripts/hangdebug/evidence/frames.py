"""Whose frame is it: the standard library's, an installed package's, or the application's own."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import lru_cache

from hangdebug.evidence import light as re
from hangdebug.evidence.libraries import FAMILIAR, INSTALLED_TOPS, KNOWN_TOPS, UNLIKELY_NAMES
from hangdebug.evidence.model import Frame, Task, Thread

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
    return path if stem in KNOWN_TOPS else None


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
