"""Give a permit or lock of asyncio back on every way out.

    await slots.acquire()                 async with slots:
    page = await fetch(url)                   page = await fetch(url)
    slots.release()

An exception, a `return` or a cancellation (a client that leaves) between the two lines keeps the permit for ever.
After as many of these as there are permits, each coroutine that wants one waits without an end.

What changes: the permit is given back where it was lost, and nothing else.

The rewrite is made only where both lines stand in the same block of a coroutine, nothing in between gives it back
too, and the sources show that it is a Semaphore, a BoundedSemaphore or a Lock of asyncio.

Refused aloud: where it is given back in between too, on a branch; where a comment stands behind the release, or a name
in front of it.

Left alone: what is given back in a `finally`, or in another function than the one that takes it; locks of threads;
two lines between which nothing can fail or wait.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hangdebug.repair.code.bindings import walk
from hangdebug.repair.code.file import File, dotted
from hangdebug.repair.code.findings import Found, Need
from hangdebug.repair.code.receivers import what_is
from hangdebug.repair.code.with_blocks import move_into_block
from hangdebug.repair.model import Edit

ID, CODE = "release_permit", "HNG004"
NEEDS = (Need((("async",), ("acquire",), ("release",)), frozenset(("acquire",))),)
MAKERS = frozenset(f"asyncio.{name}()" for name in ("Semaphore", "BoundedSemaphore", "Lock"))
FAILS = (ast.Await, ast.Call, ast.Yield, ast.AsyncFor, ast.AsyncWith, ast.Return, ast.Raise)
TWICE = "it is given back in between too: give each way out a block of its own"
HANDED = "a `return` in between may hand it on to what gives it back elsewhere: look at that first"
ODD = "it does not stand on a line of its own: write it plainly first"


def search(file: File) -> Iterator[Found]:
    for call in file.calls_in_coroutines:
        taken, up = file.parent(file.parent(call)), file.parent(call)
        plain = isinstance(call.func, ast.Attribute) and call.func.attr == "acquire" and not call.args
        if not plain or not isinstance(up, ast.Await) or not isinstance(taken, ast.Expr) or not file.coroutine(call):
            continue
        held = call.func.value if isinstance(call.func, ast.Attribute) else call
        if dotted(held) and what_is(file, held).trail in MAKERS:
            yield from answer(file, taken, held)


def answer(file: File, taken: ast.Expr, held: ast.expr) -> Iterator[Found]:
    name, block = dotted(held), file.block(taken)
    rest = block[block.index(taken) + 1 :]
    last = next((each for each in rest if is_release(each, name)), None)
    if last is None:
        return
    between = rest[: rest.index(last)]
    parts = [part for line in between for part in walk(line)]
    if not any(isinstance(part, FAILS) for part in parts):
        return
    said = f"`{name}` is given back in line {last.lineno} only where nothing fails or is cancelled before"
    again = any(isinstance(part, ast.stmt) and is_release(part, name) for part in parts)
    handed = any(isinstance(part, ast.Return) for part in parts) and releases_elsewhere(file, last, held)
    reason = TWICE if again else HANDED if handed else "" if stand_alone(file, taken, last, *between) else ODD
    if reason:
        yield Found(taken, f"{said}, but {reason}", refused=True)
        return
    yield Found(taken, f"{said}; it becomes `async with {name}:`", tuple(enter(file, taken, between, last, name)))


def releases_elsewhere(file: File, last: ast.stmt, held: ast.expr) -> bool:
    calls = [call for call in (file.method_call(use, "release") for use in file.uses(held)) if call]
    return any(file.statement(call) is not last for call in calls)


def is_release(node: ast.stmt, name: str) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and dotted(call.func) == f"{name}.release"


def stand_alone(file: File, taken: ast.stmt, last: ast.stmt, *between: ast.stmt) -> bool:
    """Whether each statement starts its line, and nothing stands behind the first, or the last, which goes.

    A comment behind the first one stays.
    """
    starts = all(not file.indent(line).strip() for line in (taken, last, *between))
    behind = file.text[file.end(taken) : file.line_end(file.end(taken))].strip()
    return starts and behind[:1] in ("", "#") and file.line_end(file.end(last)) == file.end(last)


def enter(file: File, taken: ast.Expr, between: list[ast.stmt], last: ast.stmt, name: str) -> Iterator[Edit]:
    yield Edit(file.start(taken), file.end(taken), f"async with {name}:")
    yield from move_into_block(file, taken, between[-1], last, "")
