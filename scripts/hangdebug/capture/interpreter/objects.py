"""Python's objects in another process's memory: text, numbers, dicts, attributes. All reads are bounded.

Constants here hold for every CPython from 3.9 to 3.15 on 64 bits; what differs is measured (layout.py).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import field, replace
from itertools import islice
from typing import Any

from hangdebug.capture.interpreter.layout import Layout
from hangdebug.capture.interpreter.memory import Memory, Unreadable, open_memory
from hangdebug.capture.interpreter.runtimes import SAYS_ITS_OFFSETS, Runtime, runtime_of
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame

MOST_TEXT, MOST_ITEMS = 4096, 100_000
MANAGED_DICT, INLINE_VALUES, LONG, HEAP = 1 << 4, 1 << 2, 1 << 24, 1 << 9
BASE, NAMES, FLAGS, DICT_OFFSET, BASIC_SIZE = 256, 264, 168, 288, 32
FIRST = 16  # the first field of an object behind its reference count and type
TEXT = struct.Struct("<QQ8xi")  # from a str's type on: type, length, state
ROWS, PAIR, TRIPLE = 128, struct.Struct("<QQ"), struct.Struct("<8xQQ")  # a dict's entries, so many at once
MOST_BASES = 16
DEQUE_BLOCK = 64
EXCEPTION_ARGS, MOST_MESSAGE = 24, 200


@dataclass(frozen=True)
class Objects:
    """The objects of one process. Every method takes addresses, and raises Unreadable for what is no such object."""

    memory: Memory
    layout: Layout
    names: dict[int, str] = field(default_factory=dict, repr=False)
    # What was read of types and code objects, by address: hundreds of tasks stand in a few lines.
    fields: dict[int, dict[str, int]] = field(default_factory=dict, repr=False)
    frames: dict[tuple[int, int], Frame] = field(default_factory=dict, repr=False)
    used: dict[int, frozenset[str]] = field(default_factory=dict, repr=False)

    def type_of(self, at: int) -> int:
        return self.memory.word(at + 8)

    def type_name(self, at: int) -> str:
        """The last component of the type's name, "" for what is no object."""
        try:
            return self.name_of_type(self.type_of(at))
        except Unreadable:
            return ""

    def written_in_c(self, at: int) -> bool:
        """Whether a future or a task has C's fields: else its class is Python's, and they are attributes."""
        return self.memory.word(self.type_of(at) + BASIC_SIZE) > self.layout.future_state

    def name_of_type(self, type_: int) -> str:
        if type_ not in self.names:
            raw = self.memory.read(self.memory.word(type_ + 24), 64).partition(b"\0")[0]
            self.names[type_] = raw.decode("utf-8", "replace").rpartition(".")[2]
        return self.names[type_]

    def kinds(self, at: int) -> Iterator[str]:
        """The names of the object's type and of its first bases, so that a subclass is known by its parent."""
        type_ = self.type_of(at)
        for _ in range(MOST_BASES):
            if not type_:
                return
            yield self.name_of_type(type_)
            type_ = self.memory.word(type_ + BASE)

    def text(self, at: int) -> str:
        """A str, cut after MOST_TEXT characters."""
        type_, length, state = TEXT.unpack(self.memory.read(at + 8, TEXT.size))
        if self.name_of_type(type_) != "str":
            raise Unreadable(f"no str at {at:#x}")
        kind, ascii_ = (state >> 2) & 7, state >> 6 & 1
        if kind not in (1, 2, 4) or not state >> 5 & 1:
            raise Unreadable(f"a str of kind {kind}")
        start = at + (self.layout.ascii if ascii_ else self.layout.wide)
        raw = self.memory.read(start, min(length, MOST_TEXT) * kind)
        return raw.decode({1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[kind], "replace")

    def integer(self, at: int) -> int:
        """An int (or bool) below 2**60 in either direction."""
        memory = self.memory
        if not memory.word(self.type_of(at) + FLAGS) & LONG:
            raise Unreadable(f"no int at {at:#x}")
        if self.layout.version >= (3, 12):
            tag = memory.word(at + FIRST)
            digits, sign = tag >> 3, (1, 0, -1)[min(tag & 3, 2)]
        else:
            size = memory.signed(at + FIRST)
            digits, sign = abs(size), (size > 0) - (size < 0)
        if digits > 2:
            raise Unreadable(f"a large int at {at:#x}")
        return sign * sum(memory.small(at + 24 + 4 * index) << 30 * index for index in range(digits))

    def finite(self, at: int) -> bool:
        """Whether it is a float that is not infinite."""
        return self.type_name(at) == "float" and math.isfinite(struct.unpack("<d", self.memory.read(at + FIRST, 8))[0])

    def queued(self, at: int) -> list[int]:
        """The addresses in a deque, from left to right."""
        if self.type_name(at) != "deque":
            raise Unreadable(f"no deque at {at:#x}")
        block, index = self.memory.word(at + 24), self.memory.word(at + 40)
        found = []
        for _ in range(min(self.length(at), MOST_ITEMS)):
            if index == DEQUE_BLOCK:  # a block: the one before it, its items, the one behind it
                block, index = self.memory.word(block + 8 * (DEQUE_BLOCK + 1)), 0
            found.append(self.memory.word(block + 8 * (1 + index)))
            index += 1
        return found

    def data(self, at: int) -> bytes:
        """A bytes object."""
        if self.type_name(at) != "bytes":
            raise Unreadable(f"no bytes at {at:#x}")
        return self.memory.read(at + 32, self.memory.word(at + 16))

    def length(self, at: int) -> int:
        """The number of items in a list, tuple, deque; of a set or dict as well."""
        return self.memory.word(at + (24 if self.type_name(at) in ("set", "frozenset") else 16))

    def items(self, at: int) -> list[int]:
        """The addresses in a list or tuple."""
        kind = self.type_name(at)
        if kind not in ("list", "tuple"):
            raise Unreadable(f"no list at {at:#x}")
        start, count = self.memory.word(at + 24) if kind == "list" else at + self.layout.items, self.length(at)
        return [self.memory.word(start + 8 * index) for index in range(min(count, MOST_ITEMS))]

    def members(self, at: int) -> list[int]:
        """The addresses in a set, in no order."""
        if self.type_name(at) != "set":
            raise Unreadable(f"no set at {at:#x}")
        mask, table = self.memory.word(at + 32), self.memory.word(at + 40)
        entries = (self.memory.word(table + 16 * index) for index in range(min(mask + 1, 4 * MOST_ITEMS)))
        return [one for one in entries if one and self.memory.word(one + 8)]

    def mapping(self, at: int, most: int = MOST_ITEMS) -> dict[str, int]:
        """The first `most` str keys of a dict, and the addresses of their values."""
        if "dict" not in self.kinds(at):
            raise Unreadable(f"no dict at {at:#x}")
        keys, values = self.memory.word(at + 32), self.memory.word(at + 40)
        if values and self.layout.version >= (3, 13):
            values += 8
        return dict(islice(self.entries(keys, values), most))

    def attributes(self, at: int) -> dict[str, int]:
        """What the instance's own dict holds, however this version keeps it."""
        memory, type_, version = self.memory, self.type_of(at), self.layout.version
        flags = memory.word(type_ + FLAGS)
        if version < (3, 11) or not flags & MANAGED_DICT:
            offset = memory.signed(type_ + DICT_OFFSET)
            found = memory.word(at + offset) if offset > 0 else 0
            return self.mapping(found) if found else {}
        found = memory.word(at - 24)
        if version == (3, 11):
            values = memory.word(at - 32)
        elif version == (3, 12):
            found, values = (0, found + 1) if found & 1 else (found, 0)
        else:
            inline = at + memory.word(type_ + BASIC_SIZE)
            values = inline + 8 if flags & INLINE_VALUES and not found and memory.byte(inline + 3) else 0
        if found:
            return self.mapping(found)
        return dict(self.entries(memory.word(type_ + self.layout.shared_keys), values)) if values else {}

    def exception(self, at: int) -> str:
        """An exception as the last line of its traceback, cut after MOST_MESSAGE characters."""
        kind = self.type_name(at)
        try:
            args = self.items(self.memory.word(at + EXCEPTION_ARGS))
            return f"{kind}: {self.text(args[0])[:MOST_MESSAGE]}" if args else kind
        except Unreadable:
            return kind

    def slots(self, at: int) -> dict[str, int]:
        """What the fields hold that its class and the classes above declare by `__slots__`."""
        type_ = self.type_of(at)
        if type_ not in self.fields:
            self.fields[type_] = self.declared(type_)
        found = ((name, self.memory.word(at + offset)) for name, offset in self.fields[type_].items())
        return {name: value for name, value in found if value}

    def declared(self, type_: int) -> dict[str, int]:
        """The names in the `__slots__` of a class and the classes above, and where an instance has them."""
        found: dict[str, int] = {}
        for _ in range(MOST_BASES):
            if not type_ or not self.memory.word(type_ + FLAGS) & HEAP:
                break
            for name, member in self.mapping(self.memory.word(type_ + NAMES)).items():
                if self.type_name(member) == "member_descriptor":
                    found.setdefault(name, self.memory.word(self.memory.word(member + 40) + 16))
            type_ = self.memory.word(type_ + BASE)
        return found

    def pairs(self, at: int) -> list[tuple[int, int]]:
        """The addresses of the keys and values of a dict, whatever its keys are."""
        if "dict" not in self.kinds(at):
            raise Unreadable(f"no dict at {at:#x}")
        return list(self.rows(self.memory.word(at + 32), 0))

    def entries(self, keys: int, values: int = 0) -> Iterator[tuple[str, int]]:
        """The str keys in a dict's keys and their values: in the entries, or in the array `values` of a split table."""
        return ((self.text(key), value) for key, value in self.rows(keys, values) if self.type_name(key) == "str")

    def rows(self, keys: int, values: int) -> Iterator[tuple[int, int]]:
        memory = self.memory
        if self.layout.version >= (3, 11):
            head = memory.read(keys + 8, 3)
            start, pairs = keys + 32 + (1 << min(head[1], 32)), head[2] != 0
            count = memory.word(keys + 24)
        else:
            size, count, pairs = memory.word(keys + 8), memory.word(keys + 32), False
            width = 1 if size <= 0xFF else 2 if size <= 0xFFFF else 4 if size <= 0xFFFFFFFF else 8
            start = keys + 40 + size * width
        form, count = PAIR if pairs else TRIPLE, min(count, MOST_ITEMS)
        for first in range(0, count, ROWS):
            part = memory.read(start + form.size * first, form.size * min(ROWS, count - first))
            for index, (key, own) in enumerate(form.iter_unpack(part), first):
                value = memory.word(values + 8 * index) if values else own
                if key and value:
                    yield key, value


# -- the known layouts ---------------------------------------------------------------------------------
# The layouts of CPython 3.9 to 3.15, measured beforehand (layout.py): nothing has to be started to read a process.
#
# From 3.13 on the interpreter publishes where a part of it stands (`_Py_DebugOffsets`, at the start of `_PyRuntime`),
# and that is taken from there.
#
# A row is believed only where the target's own types have the sizes that they had when it was measured. A free-threaded
# build, and a patch release that moved a field, are told so; a debug build has the same objects.

# The fields of Layout from `interpreter` to `wide`, in their order there, then the six that are known from 3.14 on, and
# at last `task_cancels`.
KNOWN_ROWS = {
    (3, 9): (32, 856, 112, 104, 120, 64, 40, 176, 56, 32, 16, 104, 152, 144, 160, 80, 48, 864, 24, 48, 72, 0),
    (3, 10): (32, 856, 112, 104, 120, 64, 40, 176, 48, 24, 16, 96, 160, 152, 168, 88, 48, 872, 24, 48, 72, 0),
    (3, 11): (40, 888, 128, 112, 136, 32, 72, 184, 40, 112, 112, 24, 136, 128, 144, 88, 48, 872, 24, 48, 72, 168),
    (3, 12): (40, 944, 128, 112, 136, 32, 68, 192, 32, 72, 72, 56, 136, 128, 144, 88, 48, 880, 24, 40, 56, 168),
    (3, 13): (632, 7656, 128, 112, 136, 32, 68, 200, 32, 72, 72, 56, 120, 112, 128, 96, 48, 880, 24, 40, 56, 104),
    (3, 14): (
        *(808, 7688, 128, 112, 136, 32, 68, 208, 32, 72, 72, 56, 128, 120, 136, 104, 48, 880, 32, 40, 56),
        *(7344, 10880, 8, 880, 152, 7480, 112),
    ),
    (3, 15): (
        *(936, 7592, 128, 112, 136, 32, 68, 208, 32, 72, 72, 56, 128, 120, 136, 104, 48, 888, 32, 40, 56),
        *(7336, 10856, 8, 1048, 152, 7456, 112),
    ),
}
# The sizes in bytes of these types: what a field moved to would change them.
MEASURED = ("FunctionType", "CodeType", "CoroutineType", "FrameType", "ModuleType", "Task", "Future")
SIZES = {
    (3, 9): (120, 176, 104, 368, 56, 184, 144),
    (3, 10): (128, 176, 96, 360, 56, 192, 152),
    (3, 11): (136, 184, 152, 120, 56, 176, 128),
    (3, 12): (144, 192, 144, 120, 56, 176, 128),
    (3, 13): (144, 200, 144, 136, 56, 144, 104),
    (3, 14): (152, 208, 152, 152, 56, 168, 112),
    (3, 15): (152, 208, 152, 152, 104, 168, 112),
}
# Where an interpreter says what stands where, from its `_PyRuntime` on: by the field of Layout; and where it describes
# code objects, whose fields are OF_CODE further on. It says there too that it runs without its lock.
PUBLISHED: dict[tuple[int, int], tuple[dict[str, int], int]] = {
    (3, 13): ({"interpreter": 40, "modules": 88}, 272),
    (3, 14): ({"interpreter": 40, "modules": 96, "threads": 72}, 312),
    (3, 15): ({"interpreter": 40, "modules": 96, "threads": 72}, 376),
}
OF_CODE = {"code_file": 8, "code_name": 24, "code_table": 32, "code_first": 40, "code_size": 72}
FREE_THREADED, FARTHEST = 16, 1 << 20
MODULES = ("types", "_asyncio")  # that have them; without asyncio there are no tasks to read

# Of which libraries' types it was seen: the workers of a server share them.
proved: set[tuple[Layout, str]] = set()


def known_layout(pid: int) -> Layout | None:
    """The layout of the interpreter in `pid`; None for one that is not known, or not as it was when it was measured."""
    try:
        runtime = runtime_of(pid)
        return checked_layout(pid, runtime) if runtime is not None and runtime.at is not None else None
    except (Unreadable, LookupError, ValueError, OverflowError):
        return None


def checked_layout(pid: int, runtime: Runtime) -> Layout | None:
    """The same. Raises Unreadable, LookupError for a version without a row, ValueError."""
    major, minor = map(int, (runtime.version or "0.0").split("."))
    version, at = (major, minor), runtime.at or 0
    *row, cancels = KNOWN_ROWS[version]
    layout = replace(Layout(version, runtime.file.inode, at - runtime.file.start, *row), task_cancels=cancels)
    if version in PUBLISHED:
        layout = replace(layout, **published(pid, at, version))
    proof = layout, runtime.file.path
    if proof in proved:
        return layout
    sizes = type_sizes(pid, layout, at)
    if not sizes.items() <= dict(zip(MEASURED, SIZES[version])).items():
        return None
    if sizes:  # without these types it has no asyncio either: nothing is read with the fields that could be wrong
        proved.add(proof)
    return layout


def published(pid: int, runtime: int, version: tuple[int, int]) -> dict[str, Any]:
    """The fields of the layout that the interpreter in `pid` publishes. Raises Unreadable where it says nothing."""
    with open_memory(pid) as memory:
        if memory.read(runtime, len(SAYS_ITS_OFFSETS)) != SAYS_ITS_OFFSETS or memory.word(runtime + FREE_THREADED):
            raise Unreadable("what should be its description is something else")
        places, code = PUBLISHED[version]
        places = {**places, **{name: code + place for name, place in OF_CODE.items()}}
        found = {name: memory.word(runtime + place) for name, place in places.items()}
    if not all(0 < value < FARTHEST for value in found.values()):
        raise Unreadable("its description makes no sense")
    return found


def type_sizes(pid: int, layout: Layout, runtime: int) -> dict[str, int]:
    """The sizes of those types in `pid` that are MEASURED and there. Raises Unreadable."""
    with open_memory(pid) as memory:
        objects = Objects(memory, layout)
        modules = objects.mapping(memory.word(memory.word(runtime + layout.interpreter) + layout.modules))
        found: dict[str, int] = {}
        for name in MODULES:
            if name in modules:
                found.update(objects.mapping(memory.word(modules[name] + FIRST)))
        if "sys" not in modules:
            raise Unreadable("what should be sys.modules is something else")
        return {name: memory.word(found[name] + BASIC_SIZE) for name in MEASURED if name in found}
