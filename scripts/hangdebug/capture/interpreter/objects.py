"""Python's objects in another process's memory: text, numbers, dicts, attributes. All reads are bounded.

Constants here hold for every CPython from 3.9 to 3.15 on 64 bits; what differs is measured (layout.py).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import field
from itertools import islice

from hangdebug.capture.interpreter.layout import Layout
from hangdebug.capture.interpreter.memory import Memory, Unreadable
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
