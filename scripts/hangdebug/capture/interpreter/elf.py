"""What an ELF file says of itself: which names it defines, which it takes from others. It is read, never run."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian: what py-spy reads as well
HEAD = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELOCATION = struct.Struct("<QQq")
LOADED, SYMBOL_TABLES, RELOCATIONS = 1, (2, 11), 4
X86_64 = 62


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
    """What the file defines and imports of `names`; None for what is no whole ELF file, or not for this user."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as text:
            return parse_image(text, tuple(names)) if text[: len(MAGIC)] == MAGIC else None
    except (OSError, ValueError, struct.error, IndexError):
        return None
    finally:
        os.close(descriptor)


def parse_image(text: mmap.mmap, names: tuple[str, ...]) -> Image:
    _, _, machine, _, entry, segments_at, sections_at, _, _, size, count, _, many, _ = HEAD.unpack_from(text, 0)
    rows = [SEGMENT.unpack_from(text, segments_at + index * size) for index in range(count)]
    loaded = tuple(Segment(row[3], row[2], row[5]) for row in rows if row[0] == LOADED)
    sections = [SECTION.unpack_from(text, sections_at + index * SECTION.size) for index in range(many)]
    defined, numbers = {}, {}
    for index, section in enumerate(sections):
        if section[1] in SYMBOL_TABLES:
            for number, name, value, known in named_symbols(text, section, sections[section[6]], names):
                if known:
                    defined[name] = value
                else:
                    numbers[index, number] = name
    imported = dict(import_places(text, sections, numbers))
    ends = (row[4] + (row[5] if row[1] != 8 else 0) for row in sections)  # 8: takes no room in the file
    return Image(machine, entry, max([*ends, sections_at + many * SECTION.size]), loaded, defined, imported)


def named_symbols(
    text: mmap.mmap, table: tuple[int, ...], strings: tuple[int, ...], names: tuple[str, ...]
) -> Iterator[tuple[int, str, int, bool]]:
    """Of each symbol of one of these names: its number, name and value, and whether it is defined here."""
    start, end = strings[4], strings[4] + strings[5]
    wanted = {place - start: name for name in names for place in places_of(text, name.encode() + b"\0", start, end)}
    if not wanted:
        return
    body = text[table[4] : table[4] + table[5]]
    for number, (name_at, _, _, section, value, _) in enumerate(
        SYMBOL.iter_unpack(body[: len(body) // SYMBOL.size * SYMBOL.size])
    ):
        if name_at in wanted:
            yield number, wanted[name_at], value, section != 0


def places_of(text: mmap.mmap, word: bytes, start: int, end: int) -> Iterator[int]:
    """All of them: a linker keeps a name that ends another one only once."""
    at = text.find(word, start, end)
    while at >= 0:
        yield at
        at = text.find(word, at + 1, end)


def import_places(
    text: mmap.mmap, sections: list[tuple[int, ...]], numbers: Mapping[tuple[int, int], str]
) -> Iterator[tuple[str, int]]:
    """Each name that is imported, with the place of its address in the table that the loader fills."""
    for section in sections:
        if section[1] == RELOCATIONS:
            body = text[section[4] : section[4] + section[5]]
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
    except (OSError, struct.error):
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
