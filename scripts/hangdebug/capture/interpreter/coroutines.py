"""The calls of a suspended coroutine: from the outermost along what each awaits, down to what nothing runs for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import field

from hangdebug.capture.interpreter.layout import GC_FLAGS, GC_HEAD, MOST_NODES, TASK_LISTS_SINCE, Layout
from hangdebug.capture.interpreter.memory import Memory, Unreadable
from hangdebug.capture.interpreter.objects import FIRST, Objects
from hangdebug.evidence.frames import library_path
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame

MOST_CALLS, MOST_VALUES = 100, 256
FRAME_CODE, FRAME_STACK, FRAME_DEPTH = 32, {(3, 9): 64, (3, 10): 64}, {(3, 9): 72, (3, 10): 80}
RUNS = ("coroutine", "generator", "async_generator")
TAG = 3
# What stands between a coroutine and the one that it awaits: each names it in its first field.
WRAPS = ("coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable")


@dataclass(frozen=True)
class Call:
    """One suspended frame of the coroutine at `at`.

    `values` are the addresses in its locals, then on its stack; the last is what it awaits. `first` is the first
    local, which is `self` in a method.
    """

    frame: Frame
    names: frozenset[str]
    values: tuple[int, ...] = field(default=(), repr=False)
    first: int = 0
    at: int = 0


@dataclass(frozen=True)
class Chain:
    """The calls, innermost first, and the address of what the innermost awaits (0 where it awaits nothing known)."""

    calls: tuple[Call, ...]
    awaited: int = 0


def follow(objects: Objects, at: int) -> Chain:
    """The chain that begins with the coroutine at `at`. It ends early where memory holds something else."""
    calls: list[Call] = []
    seen = set()
    try:
        while at and at not in seen and len(calls) < MOST_CALLS:
            seen.add(at)
            kind = objects.type_name(at)
            if kind in WRAPS:
                at = objects.memory.word(at + FIRST)
            elif kind in RUNS:
                found = suspended_call(objects, at)
                if found is None:
                    break
                calls.append(found)
                at = found.values[-1] if found.values else 0
            elif kind == "FutureIter":
                at = objects.memory.word(at + FIRST)
            else:
                break
    except Unreadable:
        at = 0
    if calls and library_path(calls[-1].frame.file) == "asyncio/futures.py":  # a future that is not written in C
        at = calls.pop().first
    return Chain(tuple(reversed(calls)), at)


def suspended_call(objects: Objects, at: int) -> Call | None:
    """The frame of a coroutine or generator, None for one that has ended."""
    memory, layout = objects.memory, objects.layout
    if layout.version < (3, 11):
        frame = memory.word(at + layout.frame)
        if not frame:
            return None
        code = memory.word(frame + FRAME_CODE)
        lasti = memory.small(frame + layout.lasti) * (2 if layout.version == (3, 10) else 1)
        values = values_before_311(objects, frame)
    else:
        code = memory.word(at + layout.frame) & ~TAG
        start = at + layout.frame + layout.lasti
        lasti = memory.word(start) - code - layout.code_size
        first = start + (24 if layout.version >= TASK_LISTS_SINCE else 16)
        count = (memory.word(start + 8) - first) // 8 if layout.version >= TASK_LISTS_SINCE else memory.small(start + 8)
        values = [without_tag(memory.word(first + 8 * index)) for index in range(max(0, min(count, MOST_VALUES)))]
        if layout.version >= (3, 15) and values and not values[-1]:
            values.pop()  # an iterator has its index above it, which is none for what is awaited
    if objects.type_name(code) != "code":
        return None
    return Call(
        frame_of(objects, code, lasti), names_used(objects, code), tuple(values), values[0] if values else 0, at
    )


def without_tag(value: int) -> int:
    """The address without its tag; 0 for an int that is no object, or nothing.

    From 3.14 on the last bits of a local say who counts the reference.
    """
    return 0 if value & TAG == TAG or value <= TAG else value & ~TAG


def ended_call(objects: Objects, at: int) -> tuple[Call, ...]:
    """The function of a coroutine that has ended, as a call without values; () where nothing is left of it."""
    try:
        code = objects.memory.word(at + objects.layout.code) & ~TAG
        if objects.type_name(code) != "code":
            return ()
        return (Call(frame_of(objects, code, 0), names_used(objects, code), at=at),)
    except Unreadable:
        return ()


def values_before_311(objects: Objects, frame: int) -> list[int]:
    """Up to 3.10 the frame is an object of its own: locals at its end, then its stack."""
    memory, version = objects.memory, objects.layout.version
    start = frame + memory.word(objects.type_of(frame) + 32) - 8
    stack = memory.word(frame + FRAME_STACK[version])
    top = memory.word(frame + FRAME_DEPTH[version])
    end = stack + 8 * (top & 0xFFFFFFFF) if version == (3, 10) else top
    return [memory.word(at) for at in range(start, max(start, min(end, start + 8 * MOST_VALUES)), 8)]


def frame_of(objects: Objects, code: int, lasti: int) -> Frame:
    if (code, lasti) not in objects.frames:
        objects.frames[code, lasti] = read_frame(objects, code, lasti)
    return objects.frames[code, lasti]


def read_frame(objects: Objects, code: int, lasti: int) -> Frame:
    memory, layout = objects.memory, objects.layout
    table = objects.data(memory.word(code + layout.code_table))
    line = line_at(table, memory.small(code + layout.code_first), lasti, layout.version)
    return Frame(
        objects.text(memory.word(code + layout.code_name)), objects.text(memory.word(code + layout.code_file)), line
    )


def names_used(objects: Objects, code: int) -> frozenset[str]:
    """The attributes and globals that the function uses by name."""
    if code not in objects.used:
        objects.used[code] = frozenset(texts(objects, objects.memory.word(code + objects.layout.code_names)))
    return objects.used[code]


def texts(objects: Objects, at: int) -> Iterator[str]:
    for one in objects.items(at):
        try:
            yield objects.text(one)
        except Unreadable:
            continue


# -- which line an instruction stands in, from the table in its code object: three formats since 3.9 ----


def line_at(table: bytes, first: int, lasti: int, version: tuple[int, int]) -> int | None:
    """The line of the instruction at byte `lasti`, None where the table has none. `first` is the code's first line."""
    if version < (3, 10):
        return line_by_steps(table, first, lasti)
    for start, end, line in (lines_by_ranges if version == (3, 10) else lines_by_locations)(table, first):
        if start <= lasti < end:
            return line
    return None


def line_by_steps(table: bytes, first: int, lasti: int) -> int:
    """3.9: pairs of steps, in bytes of code (unsigned) and in lines (signed)."""
    at, line = 0, first
    for step, lines in zip(table[::2], table[1::2]):
        at += step
        if at > lasti:
            break
        line += lines - 256 if lines > 127 else lines
    return line


def lines_by_ranges(table: bytes, first: int) -> Iterator[tuple[int, int, int | None]]:
    """3.10: pairs of a length in bytes of code and a step in lines before it; -128 is a range without a line."""
    at, line = 0, first
    for length, step in zip(table[::2], table[1::2]):
        if step == 128:
            yield at, at + length, None
        else:
            line += step - 256 if step > 127 else step
            yield at, at + length, line
        at += length


def lines_by_locations(table: bytes, first: int) -> Iterator[tuple[int, int, int | None]]:
    """3.11: entries of a first byte (bit 7, a kind in 4 bits, length - 1 in 3) and what the kind asks for."""
    at, line, index = 0, first, 0
    while index < len(table):
        head, index = table[index], index + 1
        kind, end = head >> 3 & 15, at + 2 * ((head & 7) + 1)
        if kind in (13, 14):  # no column, and long: both begin with a signed number of lines
            step, _ = long_number(table, index)
            line += -(step >> 1) if step & 1 else step >> 1
        elif 10 <= kind <= 12:
            line += kind - 10
        yield at, end, None if kind == 15 else line
        at = end
        while index < len(table) and table[index] < 128:  # only a first byte has bit 7
            index += 1


def long_number(table: bytes, index: int) -> tuple[int, int]:
    """An unsigned number in groups of six bits, the lowest first; and the index behind it."""
    value, shift = 0, 0
    while index < len(table):
        byte, index = table[index], index + 1
        value |= (byte & 63) << shift
        shift += 6
        if not byte & 64 or shift > 60:
            break
    return value, index


# -- the lists of tasks of CPython 3.14 ----------------------------------------------------------------

MOST_THREADS, MOST_SECONDS, NEIGHBOURS = 20_000, 0.5, 64


class Moved(Unreadable):
    """A list changed while it was read."""


def listed_tasks(memory: Memory, layout: Layout, interpreter: int) -> Iterator[int]:
    """Where the tasks are. Raises Moved, Unreadable."""
    yield from tasks_in_ring(memory, layout, interpreter + layout.left_tasks)
    thread = memory.word(interpreter + layout.threads)
    for _ in range(MOST_THREADS):
        if not thread:
            return
        yield from tasks_in_ring(memory, layout, thread + layout.thread_tasks)
        thread = memory.word(thread + layout.next_thread)
    raise Moved("its threads were changed while they were read")


def tasks_in_ring(memory: Memory, layout: Layout, head: int) -> Iterator[int]:
    """The tasks in one list; none where a thread has not begun one."""
    before, node = head, memory.word(head)
    for _ in range(MOST_NODES):
        if node and memory.word(node + 8) != before:
            break
        if not node or node == head:
            return
        yield node - layout.task_node
        before, node = node, memory.word(node)
    raise Moved("its tasks were changed while they were read")


def collected_tasks(objects: Objects, interpreter: int) -> Iterator[int]:
    """The tasks among all objects that the garbage collector knows, also ended ones, which are in no list any more.

    It keeps rings too, one a generation, whose heads stand side by side. A ring that changes is followed no further.
    """
    end = time.monotonic() + MOST_SECONDS
    heads = range(
        interpreter + objects.layout.collector - NEIGHBOURS, interpreter + objects.layout.collector + NEIGHBOURS + 1, 8
    )
    for head in heads:
        try:
            last = objects.memory.word(head + 8) & ~GC_FLAGS
            if last and objects.memory.word(last) & ~GC_FLAGS == head:  # else it is no head
                yield from (at for at in tasks_in_generation(objects, head, end) if "Task" in objects.kinds(at))
        except Unreadable:
            continue


def tasks_in_generation(objects: Objects, head: int, end: float) -> Iterator[int]:
    """The objects in one ring whose type's name is a task's."""
    word, before, node, count = objects.memory.word, head, objects.memory.word(head) & ~GC_FLAGS, 0
    tasks: dict[int, bool] = {}  # by type: there are a hundred objects of each
    while node != head and word(node + 8) & ~GC_FLAGS == before:
        count += 1
        if count % 1000 == 0 and time.monotonic() > end:
            return
        type_ = word(node + GC_HEAD + 8)
        if type_ not in tasks:
            tasks[type_] = objects.name_of_type(type_).endswith("Task")
        if tasks[type_]:
            yield node + GC_HEAD
        before, node = node, word(node) & ~GC_FLAGS
