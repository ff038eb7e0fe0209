"""Which Python a process runs, if any: decided by what it has mapped and what these files define, not by its name.

A server may hold Python in itself (uWSGI, mod_wsgi, a frozen application), and a program with "python" in its name may
hold none. Nothing is started to find out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hangdebug.capture.interpreter.elf import Image, read_image
from hangdebug.capture.interpreter.memory import MappedFile, Memory, Unreadable, mapped_files, open_memory
from hangdebug.capture.sockets import psutil
from hangdebug.evidence.libraries import SERVER_PROGRAMS

Kind = Literal["CPython", "PyPy", "GraalPy"]

# A name that only this kind of Python defines. Python 2 and 3.6 have no _PyRuntime.
DEFINES: dict[str, Kind] = {
    "_PyRuntime": "CPython",
    "Py_Initialize": "CPython",
    "pypy_main_startup": "PyPy",
    "graal_create_isolate": "GraalPy",
}
GRAAL_LIBRARY = "pythonvm"  # other programs are compiled by GraalVM too
# What a server written in C defines, in its program or in the module that holds Python.
SERVERS_IN_C = {"uwsgi_setup": "uwsgi", "wsgi_module": "mod_wsgi", "nxt_app_module": "unit"}
VERSION = "Py_Version"  # since 3.11: a number such as 0x030b07f0
NAMES = ("_PyRuntime", "Py_Initialize", "pypy_main_startup", "graal_create_isolate", VERSION, *SERVERS_IN_C)
# Where `_PyRuntime` keeps the first interpreter, and an interpreter the next one. From 3.13 on it says so itself.
FIRST_INTERPRETER = {"3.8": 32, "3.9": 32, "3.10": 32, "3.11": 40, "3.12": 40}
SAYS_ITS_OFFSETS, FIRST_SAID, NEXT_SAID = b"xdebugpy", 40, 64
MOST_INTERPRETERS = 1000
UNNAMED = b"PYTHONHASHSEED"  # what every CPython 3 reads from its environment: it stays in a stripped program
MOST_SEARCHED = 1 << 28
CALLED = ("python", "pypy", "graalpy", *SERVER_PROGRAMS, "uwsgi")

images: dict[tuple[int, int, int, int], Image | None] = {}


@dataclass(frozen=True)
class Runtime:
    """The Python of a process. `at` is where its `_PyRuntime` is in memory, None where no symbol tells.

    `server` is the server written in C that holds it, "" for none. `interpreters` is how many there are: 0 in a program
    that could run Python and has not begun to, None where that is not known.
    """

    kind: Kind
    file: MappedFile
    version: str | None = None
    at: int | None = None
    server: str = ""
    interpreters: int | None = None


def runtime_of(pid: int) -> Runtime | None:
    """The Python inside of `pid`, None where there is none. Raises Unreadable where it may not be seen."""
    found: dict[str, tuple[MappedFile, Image | None]] = {}
    server = ""
    for file, image in images_of(pid):
        names = image.defined if image else {}
        server = server or next((name for symbol, name in SERVERS_IN_C.items() if symbol in names), "")
        kind = next((kind for symbol, kind in DEFINES.items() if symbol in names), None)
        if kind == "GraalPy" and GRAAL_LIBRARY not in file.path:
            kind = None
        if image is None and re.search(r"/libpython\d\.\d[^/]*\.so", file.path):  # it was replaced since it was loaded
            kind = "CPython"
        if kind is not None and kind not in found:
            found[kind] = file, image
    for kind in ("PyPy", "GraalPy", "CPython"):  # the first two may define names of the third
        if kind in found:
            return runtime_in(pid, kind, *found[kind], server)
    return None


def runtime_in(pid: int, kind: Kind, file: MappedFile, image: Image | None, server: str) -> Runtime:
    named = re.search(r"python(\d\.\d+)[^/]*$", file.path)
    version, at, interpreters = named[1] if named else None, None, None
    if image is not None and kind == "CPython":
        moved = file.start - image.lowest
        try:
            with open_memory(pid) as memory:
                if VERSION in image.defined:
                    number = memory.word(image.defined[VERSION] + moved)
                    version = f"{number >> 24 & 0xFF}.{number >> 16 & 0xFF}"
                if "_PyRuntime" in image.defined:
                    at = image.defined["_PyRuntime"] + moved
                    interpreters = count_interpreters(memory, at, version or "")
        except Unreadable:
            pass
    return Runtime(kind, file, version, at, server, interpreters)


def count_interpreters(memory: Memory, runtime: int, version: str) -> int | None:
    """How many interpreters it has now; None for a Python that keeps them elsewhere."""
    first, following = FIRST_INTERPRETER.get(version), 0
    if memory.read(runtime, len(SAYS_ITS_OFFSETS)) == SAYS_ITS_OFFSETS:
        first, following = memory.word(runtime + FIRST_SAID), memory.word(runtime + NEXT_SAID)
    if first is None:
        return None
    count, at = 0, memory.word(runtime + first)
    while at and count < MOST_INTERPRETERS:
        count, at = count + 1, memory.word(at + following)
    return count


def images_of(pid: int) -> Iterator[tuple[MappedFile, Image | None]]:
    """The files that `pid` has mapped, and what those of them define that are ELF. Raises Unreadable."""
    program = text_of_link(f"/proc/{pid}/exe")
    for file in mapped_files(pid).values():
        path = f"/proc/{pid}/exe" if file.path == program else f"/proc/{pid}/root{file.path}"
        yield file, image_at(path)


def image_at(path: str) -> Image | None:
    """What a file defines of NAMES, read once: the processes of a machine share their libraries."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    key = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    if key not in images:
        images[key] = read_image(path, NAMES)
    return images[key]


def is_python(pid: int) -> bool:
    """Whether a CPython runs inside of `pid`, so that py-spy can read it.

    Where its memory may not be seen its name has to do, so that the user is told what is missing: the permission.
    """
    try:
        found = runtime_of(pid)
    except Unreadable:
        return name_of(pid).startswith(CALLED)
    return found is not None and found.kind == "CPython" and found.interpreters != 0


def name_of(pid: int) -> str:
    """What the process calls itself; "" where it is gone."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as opened:
            return opened.read().strip().lower()
    except OSError:
        pass
    try:
        return str(psutil.Process(pid).name()).lower() if psutil is not None else ""
    except psutil.Error:
        return ""


def holds_unnamed_python(pid: int) -> bool:
    """Whether the program of `pid` holds a CPython whose symbols were stripped: py-spy may find it all the same."""
    try:
        with open(f"/proc/{pid}/exe", "rb") as program:
            return UNNAMED in program.read(MOST_SEARCHED)
    except OSError:
        return False


def is_packed(pid: int) -> bool:
    """Whether the program of `pid` was packed, so that what it holds shows in no file."""
    try:
        with open(f"/proc/{pid}/exe", "rb") as program:
            return b"UPX!" in program.read(4096)
    except OSError:
        return False


def text_of_link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
