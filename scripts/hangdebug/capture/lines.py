"""Which line an instruction stands in, from the table in its code object: three formats since Python 3.9."""

from __future__ import annotations

from typing import Iterator


def line_at(table: bytes, first: int, lasti: int, version: tuple[int, int]) -> int | None:
    """The line of the instruction at byte `lasti`, None where the table has none. `first` is the code's first line."""
    if version < (3, 10):
        return by_steps(table, first, lasti)
    for start, end, line in (by_ranges if version == (3, 10) else by_locations)(table, first):
        if start <= lasti < end:
            return line
    return None


def by_steps(table: bytes, first: int, lasti: int) -> int:
    """3.9: pairs of steps, in bytes of code (unsigned) and in lines (signed)."""
    at, line = 0, first
    for step, lines in zip(table[::2], table[1::2]):
        at += step
        if at > lasti:
            break
        line += lines - 256 if lines > 127 else lines
    return line


def by_ranges(table: bytes, first: int) -> Iterator[tuple[int, int, int | None]]:
    """3.10: pairs of a length in bytes of code and a step in lines before it; -128 is a range without a line."""
    at, line = 0, first
    for length, step in zip(table[::2], table[1::2]):
        if step == 128:
            yield at, at + length, None
        else:
            line += step - 256 if step > 127 else step
            yield at, at + length, line
        at += length


def by_locations(table: bytes, first: int) -> Iterator[tuple[int, int, int | None]]:
    """3.11: entries of a first byte (bit 7, a kind in 4 bits, length - 1 in 3) and what the kind asks for."""
    at, line, index = 0, first, 0
    while index < len(table):
        head, index = table[index], index + 1
        kind, end = head >> 3 & 15, at + 2 * ((head & 7) + 1)
        if kind in (13, 14):  # no column, and long: both begin with a signed number of lines
            step, _ = number(table, index)
            line += -(step >> 1) if step & 1 else step >> 1
        elif 10 <= kind <= 12:
            line += kind - 10
        yield at, end, None if kind == 15 else line
        at = end
        while index < len(table) and table[index] < 128:  # only a first byte has bit 7
            index += 1


def number(table: bytes, index: int) -> tuple[int, int]:
    """An unsigned number in groups of six bits, the lowest first; and the index behind it."""
    value, shift = 0, 0
    while index < len(table):
        byte, index = table[index], index + 1
        value |= (byte & 63) << shift
        shift += 6
        if not byte & 64 or shift > 60:
            break
    return value, index
