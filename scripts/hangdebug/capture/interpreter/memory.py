"""Read another process's memory, in pages, without a pause: /proc/PID/mem needs py-spy's permission and no attach."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field, replace

from hangdebug.evidence.light import dataclass

PAGE = 4096
MOST_PAGES = 32_768  # 128 MiB: what is not found in so much is not looked for any longer
MOST_BYTES = 1 << 20
WORD = struct.Struct("<Q")


class Unreadable(Exception):
    """No memory there, or more was asked for than a sound object has. Never leaves this package."""


@dataclass(frozen=True)
class MappedFile:
    """A file mapped by a process. `inode` is the device and inode, as text; `start` its lowest address.

    `runs` is whether code is run from it: data that is mapped may lie where nobody answers.
    """

    path: str
    inode: str
    start: int
    runs: bool = True


@dataclass(frozen=True)
class Memory:
    """An open process. Every page is read once, so that a walk sees each object in one moment."""

    descriptor: int
    pages: dict[int, bytes] = field(default_factory=dict, repr=False)

    def read(self, at: int, size: int) -> bytes:
        """`size` bytes at the address `at`. Raises Unreadable."""
        if not (PAGE <= at < 1 << 56 and 0 <= size <= MOST_BYTES):
            raise Unreadable(f"{size} bytes at {at:#x}")
        first, last = at // PAGE, (at + size - 1) // PAGE
        pages = range(first, last + 1)
        found = self.page(first) if first == last else b"".join(map(self.page, pages))
        begin = at - first * PAGE
        return found[begin : begin + size]

    def block(self, at: int, size: int) -> bytes:
        """Up to `size` bytes from `at` on, as many as there are."""
        parts, end = [], at + size
        while at < end:
            step = min(end, (at // PAGE + 1) * PAGE) - at
            try:
                parts.append(self.read(at, step))
            except Unreadable:
                break
            at += step
        return b"".join(parts)

    def page(self, number: int) -> bytes:
        if number not in self.pages:
            if len(self.pages) >= MOST_PAGES:
                raise Unreadable("too many pages")
            try:
                self.pages[number] = os.pread(self.descriptor, PAGE, number * PAGE)
            except (OSError, OverflowError):
                self.pages[number] = b""
        if len(self.pages[number]) != PAGE:
            raise Unreadable(f"page {number:#x}")
        return self.pages[number]

    def word(self, at: int) -> int:
        """An unsigned number of eight bytes, as pointers are."""
        page, offset = self.pages.get(at // PAGE, b""), at % PAGE
        if offset <= len(page) - 8 == PAGE - 8:  # nearly always, and three times as fast
            found: int = WORD.unpack_from(page, offset)[0]
            return found
        return int.from_bytes(self.read(at, 8), "little")

    def signed(self, at: int) -> int:
        """A signed number of eight bytes."""
        return int.from_bytes(self.read(at, 8), "little", signed=True)

    def small(self, at: int) -> int:
        """A C int."""
        return int.from_bytes(self.read(at, 4), "little", signed=True)

    def byte(self, at: int) -> int:
        return self.read(at, 1)[0]


@contextmanager
def open_memory(pid: int) -> Iterator[Memory]:
    """The memory of `pid`. Raises Unreadable where it is gone, or not for this user."""
    try:
        descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(f"the memory of process {pid}: {error.strerror}") from error
    try:
        yield Memory(descriptor)
    finally:
        os.close(descriptor)


def mapped_files(pid: int) -> dict[str, MappedFile]:
    """The files that `pid` has mapped, by device and inode. Raises Unreadable."""
    found: dict[str, MappedFile] = {}
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as rows:
            for row in rows:
                words = row.split(None, 5)
                if len(words) == 6 and words[5].startswith("/"):
                    inode, runs = f"{words[3]} {words[4]}", "x" in words[1]
                    known = found.get(inode)
                    if known is None:
                        start = int(row.split("-", 1)[0], 16)
                        found[inode] = MappedFile(words[5].rstrip("\n"), inode, start, runs)
                    elif runs and not known.runs:
                        found[inode] = replace(known, runs=True)
    except OSError as error:
        raise Unreadable(f"the mappings of process {pid}: {error.strerror}") from error
    return found


def mapped_file_at(pid: int, at: int) -> MappedFile | None:
    """The file whose image holds the address `at`: a library's zeroed data follow its file without a name."""
    below = [one for one in mapped_files(pid).values() if one.start <= at]
    return max(below, key=lambda one: one.start, default=None)
