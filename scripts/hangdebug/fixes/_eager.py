"""Waits on the loop's thread that are refused: a map() that something drains, futures that the file does not show."""

from __future__ import annotations

import ast
from typing import Iterator

from hangdebug.fixes._file import File, dotted
from hangdebug.fixes._futures import executor, finished
from hangdebug.fixes._spans import Found

DRAINS = frozenset(f"builtins.{name}" for name in
                   "list tuple set frozenset dict sum sorted min max any all next".split())
LAZY = frozenset(f"builtins.{name}" for name in "zip enumerate iter map filter".split())
MAP = "only `list` of a map with one iterable is rewritten: gather wrapped futures by hand"
BY_HAND = ("what its futures are, or what else is done with them, is not plain here: use asyncio.{}() over wrapped "
           "futures by hand")


def drained(file: File, call: ast.Call) -> Iterator[Found]:
    """Each place that waits for the results of `pool.map(...)`, but `list` and `tuple` of the call itself."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr != "map" or not executor(file, call.func.value):
        return
    parent = file.parent(call)
    if isinstance(parent, ast.Call) and file.qualified(parent.func) in ("builtins.list", "builtins.tuple"):
        return
    places: list = [call]
    target = parent.targets[0] if isinstance(parent, ast.Assign) and len(parent.targets) == 1 else None
    if isinstance(target, ast.Name) and len(file.lookup(target, target.id)[1]) == 1:
        places = [use for use in file.uses(target) if file.frame(use) is file.frame(call)]
    for place in places:
        words = drain(file, place)
        if words and not left(file, place, call.func.value):
            said = f"{words} {file.short(call.func)}(...) waits for its results on the event loop's thread"
            yield Found(place, f"{said}, but {MAP}", refused=True)


def drain(file: File, node: ast.expr) -> str:
    """What draws all that the iterator gives, or the next of it; "" where nothing does."""
    parent = file.parent(node)
    if isinstance(parent, ast.Starred):
        return "unpacking"
    if isinstance(parent, ast.Assign) and isinstance(parent.targets[0], (ast.Tuple, ast.List)):
        return "unpacking"
    if isinstance(parent, ast.For) and parent.iter is node:
        return "the loop over"
    if isinstance(parent, ast.comprehension) and parent.iter is node:
        around = file.parent(parent)
        return drain(file, around) if isinstance(around, ast.GeneratorExp) else "the comprehension over"
    if not isinstance(parent, ast.Call) or node is parent.func:
        return ""
    name = file.qualified(parent.func)
    return drain(file, parent) if name in LAZY else f"{name.split('.')[-1]}() of" if name in DRAINS else ""


def left(file: File, node: ast.expr, pool: ast.expr) -> bool:
    """Whether the executor's own rule reports the place (it stands in the block), or an exit has waited by then."""
    for up in file.above(node):
        if isinstance(up, ast.With) and any(executor(file, item.context_expr) for item in up.items):
            return True
    return any(
        isinstance(each, ast.With) and any(executor(file, item.context_expr) for item in each.items)
        or isinstance(each, ast.Call) and dotted(pool) and dotted(each.func) == f"{dotted(pool)}.shutdown"
        for each in file.run_by(file.frame(node))
        if isinstance(each, (ast.With, ast.Call)) and file.end(each) <= file.start(node))


def unknown(file: File, node: ast.Call, said: str) -> Found | None:
    """`wait(jobs)` and `as_completed(jobs)` of concurrent.futures, whose jobs are not plain."""
    owner, taken = file.coroutine(node), node.args[0]
    limit = node.args[1] if len(node.args) > 1 else next((each.value for each in node.keywords if each.arg == "timeout"), None)
    polls = isinstance(limit, ast.Constant) and limit.value == 0 and limit.value is not None
    if polls or left(file, node, taken) or finished(file, node, taken, owner):
        return None
    verb = file.qualified(node.func).split(".")[-1]
    return Found(node, f"{said}, but {BY_HAND.format(verb)}", refused=True)
