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
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Union

from hangdebug.errors import BadSource
from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.file import File, dotted, last_name, parse
from hangdebug.repair.code.findings import Found, rewrite
from hangdebug.repair.code.thread_safety import why_on_loop
from hangdebug.repair.fix import read
from hangdebug.repair.model import Finding, Patch
from hangdebug.repair.rules.to_thread import CODE, ID, Blocking, answer

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
THREADS = (
    "asyncio.to_thread",
    "anyio.to_thread.run_sync",
    "starlette.concurrency.run_in_threadpool",
    "fastapi.concurrency.run_in_threadpool",
)
AWAITED = "what it returns is awaited: hand only its own part that blocks to a thread"
DEPTH, MOST_FILES = 4, 5000


@dataclass(frozen=True)
class Call:
    """One call that ends in the function that blocks, and the last name that it is written with."""

    path: str
    line: int
    name: str


@dataclass(frozen=True)
class Target:
    """The function that is called: what it is, the file that defines it, and the path of that."""

    node: Function | ast.ClassDef
    file: File
    path: str

    @property
    def owner(self) -> ast.ClassDef | None:
        """The class whose method it is."""
        parent = self.file.parent(self.node)
        return parent if isinstance(parent, ast.ClassDef) else None


def plain_function_at(path: str, line: int) -> str:
    """The name of the plain function whose own code the line is, "" where a coroutine or a module runs it."""
    target = function_at(path, line)
    return target.node.name if target and isinstance(target.node, ast.FunctionDef) else ""


def function_at(path: str, line: int) -> Target | None:
    file = parse_or_none(path)
    inner = file.innermost(FUNCTION, line) if file else None
    return Target(inner, file, path) if file and isinstance(inner, FUNCTION) else None


def parse_or_none(path: str) -> File | None:
    try:
        return parse(read(path)[0], path)
    except (BadSource, SyntaxError, RecursionError, MemoryError):
        return None


def hand_callers_to_threads(path: str, line: int, paths: list[str]) -> tuple[list[Patch], bool]:
    """A Patch for each file with coroutines that call the function around the line, directly or through others.

    `paths` are the files to look in. Each call is handed to a thread, or refused aloud where it cannot be. With it,
    whether a coroutine hands the function to a thread already.
    """
    calls: dict[Call, str] = {}
    seen: set[tuple[str, int]] = set()
    handed, todo = False, [(path, line, 0, why_bound_to_loop(path, line))]
    while todo:
        where, at, depth, unfit = todo.pop()
        for call, kind in calls_of(where, at, paths):
            if kind == "plain" and depth < DEPTH and (call.path, call.line) not in seen:
                seen.add((call.path, call.line))
                todo.append((call.path, call.line, depth + 1, unfit or why_bound_to_loop(call.path, call.line)))
            elif kind == "coroutine":
                calls[call] = unfit or calls.get(call, "")
            handed = handed or kind == "thread"
    patches = []
    for name in sorted({call.path for call in calls}):
        ours = {(call.line, call.name): unfit for call, unfit in calls.items() if call.path == name}
        before, search = read(name)[0], partial(answer_calls, calls=ours, blocked=f"{os.path.basename(path)}:{line}")
        patches.append(Patch(name, before, *rewrite(ID, search, before, name, code=CODE)))
    return patches, handed


def answer_calls(file: File, calls: dict[tuple[int, str], str], blocked: str) -> Iterator[Found]:
    """The calls of functions that were seen to block at `blocked`: line and name of each, with a refusal or ""."""
    for node in file.calls:
        key = node.lineno, last_name(node.func)
        if key in calls and file.coroutine(node):
            reason = calls[key] or AWAITED * isinstance(file.parent(node), ast.Await)
            yield answer(file, Blocking(node, file.short(node.func), f"blocks at {blocked},", reason))


def why_bound_to_loop(path: str, line: int) -> str:
    """Why the plain function around the line cannot run in a thread, "" where nothing is known against it."""
    target = function_at(path, line)
    plain = target.node if target and isinstance(target.node, ast.FunctionDef) else None
    return why_on_loop(target.file, plain, os.path.basename(path), {plain}) if target and plain else ""


def calls_of(path: str, line: int, paths: list[str]) -> Iterator[tuple[Call, str]]:
    """Each call of the function around the line, and what makes it: a "plain" function, a "coroutine", a "thread"."""
    target = function_at(path, line)
    if target is None:
        return
    word = target.owner.name if target.owner and target.node.name == "__init__" else target.node.name
    for other in dict.fromkeys([path, *paths[:MOST_FILES]]):
        if word.encode() not in Path(other).read_bytes():
            continue
        file = target.file if other == path else parse_or_none(other)
        if file is None:
            continue
        for call in file.calls:
            in_executor = last_name(call.func) == "run_in_executor"
            given = call.args[in_executor:][:1] if in_executor or file.qualified(call.func) in THREADS else []
            if given and means(file, given[0], target):
                yield Call(other, call.lineno, target.node.name), "thread"
            frame = file.frame(call)
            if means(file, call.func, target) and isinstance(frame, FUNCTION) and frame is not target.node:
                kind = "plain" if isinstance(frame, ast.FunctionDef) else "coroutine"
                yield Call(other, call.lineno, last_name(call.func)), kind


def means(file: File, func: ast.expr, target: Target) -> bool:
    """Whether the expression means the function or class `target`."""
    owner, here, name = target.owner, file is target.file, target.node.name
    if owner is not None:
        its_class = Target(owner, target.file, target.path)
        if name == "__init__":
            return means(file, func, its_class)
        if not isinstance(func, ast.Attribute) or func.attr != name:
            return False
        if here and dotted(func.value) in ("self", "cls") and file.home(func) is owner:
            return True
        made = file.maker(func.value).split(".")[-1] == owner.name or (here and makes_object(file, func.value, owner))
        return made or means(file, func.value, its_class)
    if here:
        found = file.lookup(func, func.id)[1] if isinstance(func, ast.Name) else []
        return any(item.node is target.node for item in found)
    module = ".".join(Path(target.path).with_suffix("").parts)
    stem = module.rpartition(".")[0] if module.endswith("__init__") else module
    prefix, _, last = file.qualified(func).lstrip(".").rpartition(".")
    return last == name and bool(prefix) and f".{stem}".endswith(f".{prefix}")


def makes_object(file: File, receiver: ast.expr, owner: ast.ClassDef) -> bool:
    """Whether the receiver is made by calling the class of the same file, or is a parameter annotated with it."""
    values = [receiver] if isinstance(receiver, ast.Call) else file.values(receiver)
    only = values[0] if len(values) == 1 else None
    bound = file.lookup(only, only.id)[1] if isinstance(only, ast.Name) else []  # self.repo = repo
    said = [item.node.annotation for item in bound if isinstance(item.node, ast.arg) and item.node.annotation]
    if said and dotted(said[0]) == owner.name:
        return True
    funcs = [value.func for value in values if isinstance(value, ast.Call) and isinstance(value.func, ast.Name)]
    made = [item.node for func in funcs for item in file.lookup(func, func.id)[1]]
    return bool(values) and len(funcs) == len(values) and all(node is owner for node in made)


def no_caller_found(path: str, line: int, name: str) -> Finding:
    """What to do where no coroutine that calls the function is found."""
    return Finding(
        ID,
        path,
        line,
        f"{name}() blocks here and is no coroutine; no plain call of it in a coroutine was "
        "found: look for what hands it on, such as a lambda or a property, and await it there by asyncio.to_thread()",
        refused=True,
        code=CODE,
    )
