"""From the function that blocks to the coroutines that call it: these are what has to change.

    def page(url):                        blocks here: `requests.get(url)` holds up nobody in a thread
        return requests.get(url).text

    async def report():                   changes here: `await asyncio.to_thread(page, url)`
        return page(url)

A call is known by its name where the file defines or imports the function, and by `self.name` in its class.
"""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from hangdebug.errors import BadSource
from hangdebug.fix import read, rules
from hangdebug.model import Finding, Patch

DEPTH, MOST_FILES, MOST_CALLS = 4, 5000, 5
ID = "to_thread"


@dataclass(frozen=True)
class Call:
    """One call that ends in the function that blocks, and the last name that it is written with."""

    path: str
    line: int
    name: str


def synchronous(path: str, line: int) -> str:
    """The name of the plain function whose own code the line is, "" where a coroutine or a module runs it."""
    rules()
    from hangdebug.fixes._file import parse
    try:
        file = parse(read(path)[0], path)
    except (SyntaxError, RecursionError, MemoryError):
        return ""
    inner = innermost(file, line)
    return inner.name if isinstance(inner, ast.FunctionDef) else ""


def innermost(file, line: int) -> ast.AST | None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    around = [node for node in ast.walk(file.tree) if isinstance(node, kinds) and node.lineno <= line <= node.end_lineno]
    return max(around, key=lambda node: (node.lineno, node.col_offset), default=None)


def moved_to_threads(path: str, line: int, paths: list[str]) -> list[Patch]:
    """A Patch for each file with coroutines that call the function around the line, directly or through others.

    `paths` are the files to look in. Each call is handed to a thread, or refused aloud where it cannot be.
    """
    from hangdebug.fixes import to_thread
    from hangdebug.fixes._spans import rewrite
    calls, seen = [], set()
    todo = [(path, line, 0)]
    while todo:
        where, at, depth = todo.pop()
        for call, sync in calls_of(where, at, paths):
            if sync and depth < DEPTH and (call.path, call.line) not in seen:
                seen.add((call.path, call.line))
                todo.append((call.path, call.line, depth + 1))
            elif not sync:
                calls.append(call)
    patches = []
    for file in sorted({call.path for call in calls}):
        ours = {(call.line, call.name) for call in calls if call.path == file}
        before, _ = read(file)
        blocked = f"{os.path.basename(path)}:{line}"
        search = lambda parsed: to_thread.handed_over(parsed, ours, blocked)  # noqa: E731, B023
        after, findings = rewrite(ID, search, before, file)
        patches.append(Patch(file, before, after, findings))
    return patches


def calls_of(path: str, line: int, paths: list[str]) -> Iterator[tuple[Call, bool]]:
    """Each call of the function around the line, and whether a plain function makes it."""
    home = parsed(path)
    target = innermost(home, line) if home else None
    if target is None:
        return
    for other in dict.fromkeys([path, *paths[:MOST_FILES]]):
        if target.name.encode() not in Path(other).read_bytes():
            continue
        file = home if other == path else parsed(other)
        for call in file.calls if file else ():
            if names(file, call.func, home, target, path):
                frame = file.frame(call)
                if frame is not target and isinstance(frame, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    written = getattr(call.func, "attr", getattr(call.func, "id", ""))
                    yield Call(other, call.lineno, written), isinstance(frame, ast.FunctionDef)


def parsed(path: str):
    from hangdebug.fixes._file import parse
    try:
        return parse(read(path)[0], path)
    except (BadSource, SyntaxError, RecursionError, MemoryError):
        return None


def names(file, func: ast.expr, home, target: ast.AST, path: str) -> bool:
    """Whether the expression means the function `target`, which `home` defines."""
    from hangdebug.fixes._file import dotted
    owner = home.parent(target)
    if isinstance(owner, ast.ClassDef):
        same = isinstance(func, ast.Attribute) and func.attr == target.name
        mine = file is home and dotted(func) == f"self.{target.name}" and file.home(func) is owner
        made = same and file.maker(func.value).split(".")[-1] == owner.name
        return mine or made or same and file is home and makes(file, func.value, owner)
    if file is home:
        found = file.lookup(func, func.id)[1] if isinstance(func, ast.Name) else []
        return any(item.node is target for item in found)
    module = ".".join(Path(path).with_suffix("").parts)
    full = file.qualified(func).lstrip(".")
    prefix, _, last = full.rpartition(".")
    stem = module.rpartition(".")[0] if module.endswith("__init__") else module
    return last == target.name and bool(prefix) and f".{stem}".endswith(f".{prefix}")


def makes(file, receiver: ast.expr, owner: ast.ClassDef) -> bool:
    """Whether the receiver is made by calling the class of the same file."""
    values = [receiver] if isinstance(receiver, ast.Call) else file.values(receiver)
    funcs = [value.func for value in values if isinstance(value, ast.Call) and isinstance(value.func, ast.Name)]
    found = [item.node for func in funcs for item in file.lookup(func, func.id)[1]]
    return bool(values) and len(funcs) == len(values) and all(node is owner for node in found)


def nowhere(path: str, line: int, name: str) -> Finding:
    """What to do where no coroutine that calls the function is found."""
    return Finding(ID, path, line, f"{name}() blocks here and is no coroutine; no call of it in a coroutine was found: "
                   "look for what hands it on, and await it there by asyncio.to_thread()", refused=True)
