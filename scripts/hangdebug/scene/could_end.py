"""Who could still end a wait: what tasks and threads that run have ahead of them, and what a later request may call.

A route that puts into the queue, a callback, an hourly job that will call `publish()`: none of them stands in any
stack now. What the wait itself stands in the way of is no such thing: the `release()` further down in the function
that waits for a permit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hangdebug.evidence.model import Frame, Function

Lines = range
Part = tuple[Function, Lines]  # a function, and which of its lines can still run
EVERY_LINE = Lines(0, 1 << 30)


def who_could_end(
    functions: tuple[Function, ...],
    ends: set[str],
    waiting: Iterable[Frame],
    running: Iterable[Frame],
    failed: Iterable[str] = (),
) -> Function | None:
    """The first function that could still call one of `ends`; None where there is none.

    `waiting` are the frames of those that wait, `running` those of tasks and threads that do not, `failed` the
    names of coroutines that have ended with an exception.
    """
    gone = {name.rpartition(".")[2] for name in failed}
    kept = [one for one in functions if one.name not in gone]
    where = [(one, frame.line) for frame in waiting for one in [function_at(functions, frame)] if one and frame.line]
    keys = {key for one, line in where for key in keys_at(one, line)}
    busy = [
        (one, lines_ahead(one, frame.line))
        for frame in running
        for one in [function_at(kept, frame)]
        if one and frame.line
    ]
    cut = {
        one: lines_before_wait(one, keys, [line for other, line in where if other == one], bool(busy)) for one in kept
    }
    for one in kept:
        if any(name[0] == "+" and name[1:] in ends and line in cut[one] for name, line in one.ends):
            return one
    for one, lines in reachable_lines(kept, cut, busy):
        if any(name in ends and line in lines for name, line in one.ends):
            return one
    return None


def keys_at(one: Function, line: int) -> set[str]:
    """What a line awaits. A condition's own lock is free while it is waited for (`async with ready: ...wait()`)."""
    keys = {key for key, at in one.awaits if at == line}
    waited = {key.split(".")[-2] for key in keys if key.endswith(".wait")}
    return {key for key in keys if not (key.startswith("with ") and re.split(r"[ .]", key)[-1] in waited)}


def reachable_lines(kept: list[Function], cut: dict[Function, Lines], busy: list[Part]) -> Iterator[Part]:
    """The functions that can still run, and which of their lines."""
    todo = [*busy, *((one, cut[one]) for one in kept if one.root)]
    seen = set()
    while todo:
        found = todo.pop()
        if found in seen:
            continue
        seen.add(found)
        yield found
        names = {name for name, line in found[0].calls if line in found[1]}
        todo += [
            (one, cut[one]) for one in kept if one.name in names or (one.owner in names and one.name.startswith("__"))
        ]


def lines_before_wait(one: Function, keys: set[str], waits: list[int], busy: bool) -> Lines:
    """The lines of a function that run before it comes to the same wait.

    One that yields may stand behind it, held open by a request in progress, as a dependency is: then all count.
    """
    if one.yields and busy:
        return EVERY_LINE
    lines = [*waits, *(line for key, line in one.awaits if key in keys)]
    return Lines(0, min(lines)) if lines else EVERY_LINE


def lines_ahead(one: Function, line: int) -> Lines:
    """The lines that a function which stands in `line` may still come to."""
    return Lines(min([line, *(first for first, last in one.loops if first <= line <= last)]), 1 << 30)


def function_at(functions: Iterable[Function], frame: Frame) -> Function | None:
    """The innermost function around a frame's line."""
    around = [one for one in functions if one.file == frame.file and one.line <= (frame.line or 0) <= one.last]
    return max(around, key=lambda one: one.line, default=None)
