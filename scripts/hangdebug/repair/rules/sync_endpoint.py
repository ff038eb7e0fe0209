"""Make a route a plain `def` where it awaits nothing and calls what blocks.

    @app.get("/report")                   @app.get("/report")
    async def report():                   def report():
        return requests.get(URL).text         return requests.get(URL).text

FastAPI runs a `def` route in a thread of its pool, an `async def` route on the event loop: there each blocking
call holds up every other request.

What changes: several requests may run the function at once, in different threads (40 at most, by default), beside
the event loop's own code; a client that leaves no longer matters to it. So the rewrite is made only where
everything that the function touches is known: names of its own, what a request brings, constants, functions of
known packages that only read or compute, models that are built and returned, a database session of its own request.

Left to the rules `sleep`, `to_thread` and `await_future`, call by call: a route that touches something else, such as a
queue or an event of asyncio, a variable that others share, a file that it writes.

Left alone: routes that await anything, or block nowhere; routes with another decorator, or that this file or another
one of its tree uses by name; everything that is not a route of a FastAPI or APIRouter made in this file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from hangdebug.evidence import light as re
from hangdebug.repair.code.file import File
from hangdebug.repair.code.findings import Found, Need
from hangdebug.repair.code.layout import other_files
from hangdebug.repair.code.thread_safety import why_not_in_thread
from hangdebug.repair.model import Edit
from hangdebug.repair.rules import to_thread

ID, CODE = "sync_endpoint", "HNG001"
APPS = ("fastapi.FastAPI", "fastapi.APIRouter", "fastapi.routing.APIRouter", "fastapi.applications.FastAPI")
VERBS = frozenset("get post put patch delete head options trace api_route".split())
PAUSES = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)
ROUTES = ("FastAPI", "APIRouter")
NEEDS = (Need((ROUTES, ("async",))),)


def search(file: File) -> Iterator[Found]:
    for node in [each for each in file.scopes.known_opened if isinstance(each, ast.AsyncFunctionDef)]:
        if is_route(file, node) and not awaits_anything(file, node):
            known = blocking_calls(file, node)
            if known and not is_named(file, node) and not why_not_in_thread(file, node):
                yield answer(file, node, known[0])


def answer(file: File, node: ast.AsyncFunctionDef, call: str) -> Found:
    said = f"the route {node.name}() awaits nothing, and {call}() blocks the event loop in it"
    start = file.start(node)
    gap = len("async") + next(i for i, c in enumerate(file.text[start + len("async") :]) if not c.isspace())
    message = f"{said}; it becomes a plain `def`, which FastAPI runs in a thread"
    return Found(node, message, (Edit(start, start + gap, ""),))


def is_route(file: File, node: ast.AsyncFunctionDef) -> bool:
    return bool(node.decorator_list) and all(
        isinstance(each, ast.Call)
        and isinstance(each.func, ast.Attribute)
        and each.func.attr in VERBS
        and file.maker(each.func.value) in APPS
        for each in node.decorator_list
    )


def awaits_anything(file: File, node: ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(each, PAUSES) or (isinstance(each, ast.comprehension) and each.is_async)
        for each in file.run_by(node)
    )


def blocking_calls(file: File, node: ast.AsyncFunctionDef) -> list[str]:
    """The names of the calls in the function's own frame that block."""
    calls = [each for each in file.run_by(node) if isinstance(each, ast.Call)]
    known = [item.name for each in calls for item in [to_thread.known_blocking(file, each)] if item]
    return known + [file.source(each.func) for each in calls if file.qualified(each.func) == "time.sleep"] * bool(known)


def is_named(file: File, node: ast.AsyncFunctionDef) -> bool:
    """Whether anything names the function but FastAPI: an `await report()` needs a coroutine."""
    if any(item.node is not node for item in file.scopes.of[node].names[node.name]):
        return True
    if any(file.lookup(use, use.id)[0] is file.scopes.of[node] for use in file.scopes.reads_of(node.name, None)):
        return True
    stem = Path(file.name).stem
    used = re.compile(rf"\bimport\b[^\n]*\b{node.name}\b|\b{stem}\.{node.name}\b|^\s+{node.name},?\s*$".encode(), re.M)
    return any(stem.encode() in text and used.search(text) for _, text in other_files(file.name))
