"""Sleep without stopping the event loop.

    time.sleep(0.5)                       await asyncio.sleep(0.5)

`time.sleep` in a coroutine suspends the loop's thread: no request is served until it is over.

What changes: other coroutines run meanwhile, and a cancellation (a client that leaves) ends the sleep. Values
that they share with this one may be others afterwards.

Refused aloud: where a lock of threads is held around it, in a `finally` and behind a caught cancellation,
in a generator expression.

Left alone: synchronous code, also inside a coroutine; `time.sleep(0)`, which only offers the processor to
another thread; a `sleep` that is not known to be that of `time`; files that import trio or curio. In a file that
imports anyio and not asyncio it becomes `anyio.sleep`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hangdebug.repair.code.await_places import import_needed, loop_module, never_runs, other_loop, why_no_await
from hangdebug.repair.code.file import File
from hangdebug.repair.code.findings import Found, Need
from hangdebug.repair.model import Edit

ID, CODE = "sleep", "HNG002"
NEEDS = (Need((("time",), ("sleep",)), frozenset(("sleep",))),)


def search(file: File) -> Iterator[Found]:
    for node in file.calls_in_coroutines if not other_loop(file) else ():
        if (
            file.qualified(node.func) == "time.sleep"
            and file.coroutine(node)
            and not sleeps_not(node)
            and not never_runs(file, node)
        ):
            yield answer(file, node)


def answer(file: File, node: ast.Call) -> Found:
    plain = len(node.args) == 1 and not node.keywords and file.start(node.func) == file.start(node)
    reason = why_no_await(file, node) or ("" if plain else "it is written in an unusual way: call it by its name first")
    if reason:
        return Found(node, f"time.sleep() stops the event loop, but {reason}", refused=True)
    module = loop_module(file)
    edit = Edit(file.start(node.func), file.end(node.func), f"await {module}.sleep")
    message = f"time.sleep() stops the event loop; it becomes `await {module}.sleep({file.short(node.args[0])})`"
    return Found(node, message, (edit,), import_needed(file, node, module) or ())


def sleeps_not(node: ast.Call) -> bool:
    return len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
