"""Hand a call that blocks to a thread, and await it.

    page = requests.get(url, timeout=5)   page = await asyncio.to_thread(requests.get, url, timeout=5)
    text = open(path).read()              text = await asyncio.to_thread(lambda: open(path).read())

In a coroutine such a call holds up every other request until it returns. In a thread it holds up its own alone.

What changes: other coroutines run meanwhile, and a cancellation (a client that leaves) may arrive there. The call
itself cannot be cancelled: it ends in its thread, so it should have a timeout. The thread is one of the loop's
default executor, which has a few more than the machine has processors.

Known are: `requests`, `httpx` and `urlopen().read()`, `subprocess`, name lookups, password hashing, `sqlite3`,
`open().read()`, and the waiting methods of threads, processes, queues and locks, where the file shows what the
receiver is.

Refused aloud: what a thread cannot take over (a sqlite3 connection, a Session that coroutines share, a streamed
response), what would wait for ever in its thread after a cancellation (a queue without a timeout, a lock), and each place where no await can stand: a held lock of threads, a `finally`, a generator expression.

Left alone: synchronous code, also inside a coroutine; receivers that are not known; calls that do not wait
(`get(block=False)`, `acquire(blocking=False)`), or that look first whether there is anything; a lock that is given
back before the next await; a queue that never leaves the function; a join in a `finally`; files about trio or curio.
"""

from __future__ import annotations

import ast
from typing import Iterator

from hangdebug.fixes._blocking import NEEDS, Blocking, blocking
from hangdebug.fixes._file import File
from hangdebug.fixes._places import behind, dead, obstacle, other_loop, reach, wrap
from hangdebug.fixes._spans import Edit, Found

ID = "to_thread"
__all__ = ["ID", "NEEDS", "search"]


def search(file: File) -> Iterator[Found]:
    taken: list = []
    for node in file.calls if not other_loop(file) else ():
        if not file.coroutine(node) or isinstance(file.parent(node), ast.Await) or dead(file, node):
            continue
        known = blocking(file, node)
        if known and not any(up in taken for up in file.above(node)):
            item = found(file, known)
            if item.refused and known.name.endswith(".join"):
                continue  # in a `finally`, say: by then the thread has most likely ended
            taken += [node] if known.whole and item.edits else []
            yield item


def found(file: File, known: Blocking) -> Found:
    node = known.node
    said = f"{known.name}() {known.does} on the event loop's thread"
    reason = known.refusal or obstacle(file, node)
    edits = None if reason else lambda_call(file, node) if known.whole else behind(file, node, "asyncio.to_thread")
    if edits is None:
        reason = reason or "its layout is unusual: put it on one line first"
        return Found(node, f"{said}, but {reason}", refused=True)
    shown = "lambda: ..." if known.whole else f"{file.short(node.func)}, ..."
    return Found(node, f"{said}; it becomes `await asyncio.to_thread({shown})`", edits, reach(file, node, "asyncio"))


def lambda_call(file: File, node: ast.Call) -> tuple[Edit, ...]:
    start, end = file.start(node), file.end(node)
    before, after = wrap(file, node)
    return (*before, Edit(start, start, "await asyncio.to_thread(lambda: "), Edit(end, end, ")"), *after)


def handed_over(file: File, calls: set[tuple[int, str]], blocked: str) -> Iterator[Found]:
    """The calls (line, name of the function) of functions that were seen to block, at `blocked`."""
    for node in file.calls:
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if (node.lineno, name) in calls and file.coroutine(node) and not isinstance(file.parent(node), ast.Await):
            known = Blocking(node, file.short(node.func), f"blocks at {blocked},")
            yield found(file, known)
