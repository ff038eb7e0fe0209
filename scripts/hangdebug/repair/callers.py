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
from hangdebug.repair.code.await_places import CHANGES
from hangdebug.repair.code.file import dotted, parse
from hangdebug.repair.code.findings import rewrite
from hangdebug.repair.fix import read
from hangdebug.repair.model import Finding, Patch
from hangdebug.repair.rules.to_thread import Blocking, found

LOOPED = ("asyncio", "anyio", "trio", "uvloop")
THREADS = (
    "asyncio.to_thread",
    "anyio.to_thread.run_sync",
    "starlette.concurrency.run_in_threadpool",
    "fastapi.concurrency.run_in_threadpool",
)
ON_LOOP = frozenset("call_soon call_later call_at create_task create_future run_until_complete start_soon".split())
AT_ONCE = "which several threads would do at once"
MOST_CALLEES = 50
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
    try:
        file = parse(read(path)[0], path)
    except (SyntaxError, RecursionError, MemoryError):
        return ""
    inner = innermost(file, line)
    return inner.name if isinstance(inner, ast.FunctionDef) else ""


def innermost(file, line: int) -> ast.AST | None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    around = [
        node for node in ast.walk(file.tree) if isinstance(node, kinds) and node.lineno <= line <= node.end_lineno
    ]
    return max(around, key=lambda node: (node.lineno, node.col_offset), default=None)


def moved_to_threads(path: str, line: int, paths: list[str]) -> tuple[list[Patch], bool]:
    """A Patch for each file with coroutines that call the function around the line, directly or through others.

    `paths` are the files to look in. Each call is handed to a thread, or refused aloud where it cannot be. With it,
    whether a coroutine hands the function to a thread already.
    """
    calls, seen, handed = {}, set(), False
    todo = [(path, line, 0, bound_to_loop(path, line))]
    while todo:
        where, at, depth, unfit = todo.pop()
        for call, kind in calls_of(where, at, paths):
            if kind == "plain" and depth < DEPTH and (call.path, call.line) not in seen:
                seen.add((call.path, call.line))
                todo.append((call.path, call.line, depth + 1, unfit or bound_to_loop(call.path, call.line)))
            elif kind == "coroutine":
                calls[call] = unfit or calls.get(call, "")
            handed = handed or kind == "thread"
    patches = []
    for file in sorted({call.path for call in calls}):
        ours = {(call.line, call.name): unfit for call, unfit in calls.items() if call.path == file}
        blocked, before = f"{os.path.basename(path)}:{line}", read(file)[0]
        after, findings = rewrite(ID, lambda parsed: handed_over(parsed, ours, blocked), before, file)  # noqa: B023
        patches.append(Patch(file, before, after, findings))
    return patches, handed


def handed_over(file, calls: dict[tuple[int, str], str], blocked: str) -> Iterator:
    """The calls (line, name of the function) of functions that were seen to block at `blocked`, each with a refusal or ""."""
    for node in file.calls:
        key = node.lineno, getattr(node.func, "attr", getattr(node.func, "id", ""))
        if key in calls and file.coroutine(node):
            awaited = "what it returns is awaited: hand only its own part that blocks to a thread"
            reason = calls[key] or (awaited if isinstance(file.parent(node), ast.Await) else "")
            yield found(file, Blocking(node, file.short(node.func), f"blocks at {blocked},", reason))


def bound_to_loop(path: str, line: int) -> str:
    """Why the plain function around the line cannot run in a thread, "" where nothing is known against it."""
    file = parsed(path)
    home = innermost(file, line) if file else None
    return unfit(file, home, os.path.basename(path), {home}) if home else ""


def unfit(file, home: ast.AST, name: str, seen: set) -> str:
    """The same, of a function and of those of the file that it calls."""
    for each in ast.walk(home):
        if isinstance(each, (ast.Yield, ast.YieldFrom)) and file.frame(each) is home and len(seen) == 1:
            return f"{home.name}() is a generator, whose body runs where it is looped over, not in the thread"
        reason = against(file, home, each)
        if reason:
            return f"{home.name}() in line {each.lineno} of {name} {reason}"
        for callee in called(file, home, each) - seen if isinstance(each, ast.Call) else ():
            seen.add(callee)
            words = unfit(file, callee, name, seen) if len(seen) < MOST_CALLEES else ""
            if words:
                return words
    return ""


def called(file, home: ast.AST, call: ast.Call) -> set:
    """The plain function, or the method of the same class, that the call means."""
    if isinstance(call.func, ast.Name):
        return {item.node for item in file.lookup(call.func, call.func.id)[1] if isinstance(item.node, ast.FunctionDef)}
    inside = isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") in ("self", "cls")
    owner = file.home(call) if inside else None
    return (
        {each for each in owner.body if isinstance(each, ast.FunctionDef) and each.name == call.func.attr}
        if owner
        else set()
    )


def against(file, home: ast.AST, each: ast.AST) -> str:
    """What one node of the function has against a thread, in words."""
    if isinstance(each, ast.Global):
        return f"changes `{each.names[0]}`, {AT_ONCE}"
    if isinstance(each, ast.Nonlocal):
        around = file.lookup(home, each.names[0])[0]
        return (
            "" if around and isinstance(around.node, ast.AsyncFunctionDef) else f"changes `{each.names[0]}`, {AT_ONCE}"
        )
    if isinstance(each, ast.Call) and getattr(each.func, "attr", "") in ON_LOOP:
        return f"calls `{file.short(each.func)}`, which belongs to the event loop's thread"
    held = each.func.value if isinstance(each, ast.Call) and getattr(each.func, "attr", "") in CHANGES else each
    stored = held is not each or isinstance(each, (ast.Attribute, ast.Subscript)) and not isinstance(each.ctx, ast.Load)
    if stored and home.name != "__init__":
        root = next((part for part in ast.walk(held) if isinstance(part, ast.Name)), None)
        scope, bound = file.lookup(root, root.id) if root is not None else (None, [])
        own = scope is file.scopes.opened.get(file.frame(each)) and not any(
            isinstance(item.node, ast.arg) for item in bound
        )
        if root is not None and not own:
            return f"changes `{file.short(held)}`, {AT_ONCE}"
    if not isinstance(each, (ast.Name, ast.Attribute)) or not dotted(each) or not isinstance(each.ctx, ast.Load):
        return ""
    made, known = file.maker(each), file.qualified(each)
    if known.split(".")[0] in LOOPED or made.split(".")[0] in ("asyncio", "anyio"):
        return f"uses `{file.short(each)}`, which belongs to the event loop's thread"
    if known.split(".")[0] == "signal":
        return f"uses `{file.short(each)}`, which only the main thread may"
    inside = file.lookup(each, dotted(each).split(".")[0])[0] is file.scopes.opened[home]
    if made == "sqlite3.connect" and (not inside or isinstance(each, ast.Attribute)):
        return f"uses `{file.short(each)}`, and a sqlite3 connection belongs to the thread that made it"
    if made == "threading.local":
        return f"uses `{file.short(each)}`, which is another one in another thread"
    if made == "contextvars.ContextVar" and getattr(file.parent(each), "attr", "") in ("set", "reset"):
        return f"sets `{file.short(each)}`, which a thread does for itself alone"
    return ""


def calls_of(path: str, line: int, paths: list[str]) -> Iterator[tuple[Call, str]]:
    """Each call of the function around the line, and what makes it: a "plain" function, a "coroutine", a "thread"."""
    home = parsed(path)
    target = innermost(home, line) if home else None
    if target is None:
        return
    for other in dict.fromkeys([path, *paths[:MOST_FILES]]):
        word = (
            home.parent(target).name
            if target.name == "__init__" and isinstance(home.parent(target), ast.ClassDef)
            else target.name
        )
        if word.encode() not in Path(other).read_bytes():
            continue
        file = home if other == path else parsed(other)
        for call in file.calls if file else ():
            given = call.args[getattr(call.func, "attr", "") == "run_in_executor" :][:1]
            if (getattr(call.func, "attr", "") == "run_in_executor" or file.qualified(call.func) in THREADS) and given:
                if names(file, given[0], home, target, path):
                    yield Call(other, call.lineno, target.name), "thread"
            if names(file, call.func, home, target, path):
                frame = file.frame(call)
                if frame is not target and isinstance(frame, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    written = getattr(call.func, "attr", getattr(call.func, "id", ""))
                    yield (
                        Call(other, call.lineno, written),
                        "plain" if isinstance(frame, ast.FunctionDef) else "coroutine",
                    )


def parsed(path: str):
    try:
        return parse(read(path)[0], path)
    except (BadSource, SyntaxError, RecursionError, MemoryError):
        return None


def names(file, func: ast.expr, home, target: ast.AST, path: str) -> bool:
    """Whether the expression means the function `target`, which `home` defines."""
    owner = home.parent(target)
    if isinstance(owner, ast.ClassDef):
        if target.name == "__init__":
            return names(file, func, home, owner, path)
        if not isinstance(func, ast.Attribute) or func.attr != target.name:
            return False
        mine = file is home and dotted(func.value) in ("self", "cls") and file.home(func) is owner
        made = file.maker(func.value).split(".")[-1] == owner.name
        return (
            mine
            or made
            or names(file, func.value, home, owner, path)
            or file is home
            and makes(file, func.value, owner)
        )
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
    for value in values:  # self.repo = repo, a parameter that is annotated
        bound = file.lookup(value, value.id)[1] if isinstance(value, ast.Name) else []
        said = [item.node.annotation for item in bound if isinstance(item.node, ast.arg) and item.node.annotation]
        if len(values) == 1 and said and dotted(said[0]) == owner.name:
            return True
    funcs = [value.func for value in values if isinstance(value, ast.Call) and isinstance(value.func, ast.Name)]
    found = [item.node for func in funcs for item in file.lookup(func, func.id)[1]]
    return bool(values) and len(funcs) == len(values) and all(node is owner for node in found)


def nowhere(path: str, line: int, name: str) -> Finding:
    """What to do where no coroutine that calls the function is found."""
    return Finding(
        ID,
        path,
        line,
        f"{name}() blocks here and is no coroutine; no plain call of it in a coroutine was "
        "found: look for what hands it on, such as a lambda or a property, and await it there by asyncio.to_thread()",
        refused=True,
    )
