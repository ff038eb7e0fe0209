"""Which Python a process runs, if any: decided by what it has mapped and what these files define, not by its name.

A server may hold Python in itself (uWSGI, mod_wsgi, a frozen application), and a program with "python" in its name may
hold none. Nothing is started to find out.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from typing import Literal

from hangdebug.capture.interpreter.memory import MappedFile, Memory, Unreadable, mapped_files, open_memory
from hangdebug.capture.proc import psutil
from hangdebug.evidence.as_seen import aside, far_mounts, is_far
from hangdebug.evidence.libraries import SERVER_PROGRAMS
from hangdebug.evidence.light import dataclass

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
                    found = interpreters_in(memory, at, version or "")
                    interpreters = None if found is None else len(found)
        except Unreadable:
            pass
    return Runtime(kind, file, version, at, server, interpreters)


def interpreters_in(memory: Memory, runtime: int, version: str) -> list[int] | None:
    """Where its interpreters are now, the newest first; None for a Python that keeps them elsewhere."""
    first, following = FIRST_INTERPRETER.get(version), 0
    if memory.read(runtime, len(SAYS_ITS_OFFSETS)) == SAYS_ITS_OFFSETS:
        first, following = memory.word(runtime + FIRST_SAID), memory.word(runtime + NEXT_SAID)
    if first is None:
        return None
    found, at = list[int](), memory.word(runtime + first)
    while at and len(found) < MOST_INTERPRETERS:
        found.append(at)
        at = memory.word(at + following)
    return found


def images_of(pid: int) -> Iterator[tuple[MappedFile, Image | None]]:
    """The files from which `pid` runs code, and what those of them define that are ELF. Raises Unreadable."""
    far = far_mounts(f"/proc/{pid}")
    for file in (one for one in mapped_files(pid).values() if one.runs):
        image = None
        if not is_far(file.path, far):
            image = image_of(pid, file)
        else:
            with suppress(OSError):
                image = aside.ask("hangdebug.capture.interpreter.runtimes:image_of", pid, file)
        yield file, image


def image_of(pid: int, file: MappedFile) -> Image | None:
    program = f"/proc/{pid}/exe"
    return image_at(program if file.path == text_of_link(program) else place_of(pid, file))


def place_of(pid: int, file: MappedFile) -> str:
    """Where a mapped file is for us: below the root of its container, but as it is named of a process in a chroot."""
    places = [f"/proc/{pid}/root{file.path}", file.path]
    regular = [place for place in places if inode_of(place)]
    same = (place for place in regular if inode_of(place) == file.inode.split()[-1])
    return next(same, regular[0] if regular else places[0])


def inode_of(path: str) -> str:
    """ "" for what is no regular file."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return str(found.st_ino) if stat.S_ISREG(found.st_mode) else ""


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


# -- what an ELF file says -----------------------------------------------------------------------------

MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian: what py-spy reads as well
HEAD = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELOCATION = struct.Struct("<QQq")
LOADED, SYMBOL_TABLES, RELOCATIONS = 1, (2, 11), 4
X86_64 = 62
MOST_READ = 1 << 29  # bytes of a file's tables


@dataclass(frozen=True)
class Segment:
    """A part of the file that is loaded: where in memory, where in the file, and its size in the file."""

    address: int
    offset: int
    size: int


@dataclass(frozen=True)
class Image:
    """Addresses are those that it was linked for.

    `defined` are the names asked for that it defines, `imported` those that it takes from elsewhere, each with the
    place where the loader writes its address. `end` is where its last section ends: what follows was appended.
    """

    machine: int
    entry: int
    end: int
    segments: tuple[Segment, ...] = ()
    defined: Mapping[str, int] = field(default_factory=dict)
    imported: Mapping[str, int] = field(default_factory=dict)

    @property
    def lowest(self) -> int:
        return min((one.address - one.offset for one in self.segments), default=0)


def read_image(path: str, names: Iterable[str]) -> Image | None:
    """What the file defines and imports of `names`; None for what is no whole ELF file, or not for this user.

    It is read in pieces and not mapped: one that gets shorter, or lies on a failing disk, would end this process.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        file = Pieces(descriptor)
        return parse_image(file, tuple(names)) if file.read(0, len(MAGIC)) == MAGIC else None
    except (OSError, ValueError, struct.error, IndexError, OverflowError, MemoryError):
        return None
    finally:
        os.close(descriptor)


class Pieces:
    """A file that is read in pieces, and no more of it than MOST_READ bytes, whatever its tables say."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.size, self.left = descriptor, os.fstat(descriptor).st_size, MOST_READ

    def read(self, start: int, size: int) -> bytes:
        """Up to `size` bytes of what begins at `start`. Raises OSError, also where the file has become shorter than it
        was, and OverflowError for more than MOST_READ."""
        size = min(size, max(0, self.size - start))
        self.left -= size
        if self.left < 0:
            raise OverflowError(f"its tables say more than {MOST_READ} bytes")
        whole = bytearray()
        while len(whole) < size and (part := os.pread(self.descriptor, size - len(whole), start + len(whole))):
            whole += part
        if len(whole) < size:
            raise OSError(errno.EIO, "it has become shorter since it was opened")
        return bytes(whole)

    def rows(self, form: struct.Struct, start: int, count: int, every: int) -> list[tuple[int, ...]]:
        """`count` rows of a table, `every` bytes from one to the next. Raises struct.error where the file ends."""
        table = self.read(start, count * every)
        return [form.unpack_from(table, index * every) for index in range(count)]


def parse_image(file: Pieces, names: tuple[str, ...]) -> Image:
    _, _, machine, _, entry, segments_at, sections_at, _, _, size, count, _, many, _ = HEAD.unpack(
        file.read(0, HEAD.size)
    )
    rows = file.rows(SEGMENT, segments_at, count, size)
    loaded = tuple(Segment(row[3], row[2], row[5]) for row in rows if row[0] == LOADED)
    sections = file.rows(SECTION, sections_at, many, SECTION.size)
    defined, numbers = {}, {}
    for index, section in enumerate(sections):
        if section[1] in SYMBOL_TABLES:
            for number, name, value, known in named_symbols(file, section, sections[section[6]], names):
                if known:
                    defined[name] = value
                else:
                    numbers[index, number] = name
    imported = dict(import_places(file, sections, numbers)) if numbers else {}
    ends = (row[4] + (row[5] if row[1] != 8 else 0) for row in sections)  # 8: takes no room in the file
    return Image(machine, entry, max([*ends, sections_at + many * SECTION.size]), loaded, defined, imported)


def named_symbols(
    file: Pieces, table: tuple[int, ...], strings: tuple[int, ...], names: tuple[str, ...]
) -> Iterator[tuple[int, str, int, bool]]:
    """Of each symbol of one of these names: its number, name and value, and whether it is defined here."""
    text = file.read(strings[4], strings[5])
    wanted = {place: name for name in names for place in places_of(text, name.encode() + b"\0")}
    if not wanted:
        return
    body = file.read(table[4], table[5])
    for number, (name_at, _, _, section, value, _) in enumerate(
        SYMBOL.iter_unpack(body[: len(body) // SYMBOL.size * SYMBOL.size])
    ):
        if name_at in wanted:
            yield number, wanted[name_at], value, section != 0


def places_of(text: bytes, word: bytes) -> Iterator[int]:
    """All of them: a linker keeps a name that ends another one only once."""
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + 1)


def import_places(
    file: Pieces, sections: list[tuple[int, ...]], numbers: Mapping[tuple[int, int], str]
) -> Iterator[tuple[str, int]]:
    """Each name that is imported, with the place of its address in the table that the loader fills."""
    for section in sections:
        if section[1] == RELOCATIONS:
            body = file.read(section[4], section[5])
            for place, what, _ in RELOCATION.iter_unpack(body[: len(body) // RELOCATION.size * RELOCATION.size]):
                name = numbers.get((section[6], what >> 32))
                if name is not None:
                    yield name, place


def code_at(path: str, image: Image, address: int, size: int) -> bytes:
    """Up to `size` bytes of what is loaded at `address`; b"" where nothing is."""
    part = next((one for one in image.segments if one.address <= address < one.address + one.size), None)
    if part is None:
        return b""
    with open(path, "rb") as opened:
        opened.seek(part.offset + address - part.address)
        return opened.read(min(size, part.address + part.size - address))


# -- is it a plain interpreter -------------------------------------------------------------------------

MAINS = ("Py_BytesMain", "Py_Main")
FIRST_CODE, MOST_CODE = 64, 24
LOAD_MAIN = (b"\x48\x8d\x3d", b"\x48\xc7\xc7")  # lea main(%rip), %rdi; mov $main, %rdi
MARK = b"\xf3\x0f\x1e\xfa"  # endbr64, at places to which code may jump
NEAR, SHORT, INDIRECT, GUARDED = b"\xe9", b"\xeb", b"\xff\x25", b"\xf2\xff\x25"
CALL, AFTER_CALL = b"\x48\x83\xec\x08\xe8", b"\x48\x83\xc4\x08\xc3"  # the same as a jump, from an older compiler
MOST_APPENDED = 256  # bytes of padding


def is_plain_interpreter(path: str) -> bool:
    """Whether the program at `path` is proved to be CPython's own."""
    image = read_image(path, MAINS)
    try:
        if image is None or image.machine != X86_64 or os.stat(path).st_size - image.end > MOST_APPENDED:
            return False
        return any(leads_to_python(path, image, start) for start in mains(path, image))
    except (OSError, struct.error, ValueError, OverflowError):
        return False


def mains(path: str, image: Image) -> Iterator[int]:
    """Where `main` is: the first code of a program hands it to the C library."""
    code = code_at(path, image, image.entry, FIRST_CODE)
    for load in LOAD_MAIN:
        at = code.find(load)
        if at >= 0:
            (number,) = struct.unpack_from("<i", code, at + 3)
            yield image.entry + at + 7 + number if load == LOAD_MAIN[0] else number


def leads_to_python(path: str, image: Image, at: int) -> bool:
    """Whether the code at `at` does nothing but call one of Python's own mains with the arguments that it has."""
    found = jump_from(path, image, at)
    if found is None:
        return False
    target, indirect = found
    if indirect:
        return target in image.imported.values()
    if target in image.defined.values():
        return True
    further = jump_from(path, image, target)  # by way of the table of imports
    return further is not None and further[1] and further[0] in image.imported.values()


def jump_from(path: str, image: Image, at: int) -> tuple[int, bool] | None:
    """Where a jump at `at` leads, and whether what stands there is only the address; None for any other code."""
    code = code_at(path, image, at, MOST_CODE)
    start = at
    if code.startswith(MARK):
        code, start = code[len(MARK) :], at + len(MARK)
    for opcode, form, indirect in ((NEAR, "<i", 0), (SHORT, "<b", 0), (INDIRECT, "<i", 1), (GUARDED, "<i", 1)):
        if code.startswith(opcode):
            (number,) = struct.unpack_from(form, code, len(opcode))
            return start + len(opcode) + struct.calcsize(form) + number, bool(indirect)
    if code.startswith(CALL) and code[len(CALL) + 4 :].startswith(AFTER_CALL):
        (number,) = struct.unpack_from("<i", code, len(CALL))
        return start + len(CALL) + 4 + number, False
    return None
