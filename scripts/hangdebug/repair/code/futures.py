"""Concurrent futures of a coroutine: what is one, a list or a dictionary of them, each used for nothing else."""

from __future__ import annotations

import ast

from hangdebug.repair.code.bindings import walk
from hangdebug.repair.code.executors import is_executor
from hangdebug.repair.code.file import File, dotted

READS = ("result", "exception", "cancel")
ASKS = ("done", "running", "add_done_callback")


def starts_future(file: File, node: ast.AST | None) -> bool:
    """Whether the expression is a call that gives a concurrent future."""
    if not isinstance(node, ast.Call):
        return False
    if file.qualified(node.func) == "asyncio.run_coroutine_threadsafe":
        return True
    return isinstance(node.func, ast.Attribute) and node.func.attr == "submit" and is_executor(file, node.func.value)


def is_future(file: File, node: ast.expr, owner: ast.AST) -> bool:
    """Whether the expression is such a call, or a local name for nothing but such futures, each used as one."""
    if starts_future(file, node):
        return True
    if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
        return is_mapping(file, node.value, owner) or (
            are_futures(file, node.value, owner) and not is_keyed(file, node.value)
        )
    if not isinstance(node, ast.Name) or not file.owned_by(node, owner):
        return False
    bound = [item.node for item in file.lookup(node, node.id)[1]]
    known = all(starts_future(file, value) for value in file.values(node)) or all(
        is_drawn(file, each, owner) for each in bound
    )
    return bool(bound) and known and all(uses_as_future(file, use, owner) for use in file.uses(node))


def is_drawn(file: File, target: ast.AST, owner: ast.AST) -> bool:
    """Whether the name is the variable of a loop over a list of such futures."""
    loop = file.parent(target)
    pair = isinstance(loop, ast.Tuple) and loop.elts[1:] == [target]  # for key, job in jobs.items()
    loop, target = (file.parent(loop), loop) if pair else (loop, target)
    if not isinstance(loop, (ast.For, ast.comprehension)) or loop.target is not target:
        return False
    func = loop.iter.func if isinstance(loop.iter, ast.Call) and not loop.iter.args else None
    if isinstance(func, ast.Attribute):
        return func.attr == ("items" if pair else "values") and is_mapping(file, func.value, owner)
    return not pair and are_futures(file, loop.iter, owner)


def is_mapping(file: File, node: ast.expr, owner: ast.AST) -> bool:
    """Whether the expression is a local name for a dictionary whose values are such futures, used for nothing else."""
    if not isinstance(node, ast.Name) or not file.owned_by(node, owner):
        return False
    values = file.values(node)
    made = [
        (isinstance(value, ast.DictComp) and starts_future(file, value.value))
        or (isinstance(value, ast.Dict) and all(starts_future(file, each) for each in value.values))
        for value in values
    ]
    return (
        bool(made)
        and all(made)
        and all(uses_as_mapping(file, use, owner) for use in file.uses(node))
        and not (any(isinstance(value, ast.Dict) and not value.values for value in values))
    )


def uses_as_mapping(file: File, use: ast.expr, owner: ast.AST) -> bool:
    up = file.parent(use)
    if isinstance(up, ast.Subscript):
        return isinstance(up.ctx, ast.Load) and getattr(file.parent(up), "attr", "") in READS
    loop = file.parent(file.parent(up)) if isinstance(up, ast.Attribute) and up.attr in ("items", "values") else up
    if isinstance(loop, (ast.For, ast.comprehension)):
        return never_asks(file, loop, owner)
    return isinstance(up, ast.Call) and file.qualified(up.func) in ("builtins.len", "builtins.list")


def is_keyed(file: File, node: ast.expr) -> bool:
    """Whether the futures are the keys of a dictionary, so that a subscript gives something else."""
    return any(isinstance(value, (ast.Dict, ast.DictComp)) for value in file.values(node))


def are_futures(file: File, node: ast.expr, owner: ast.AST) -> bool:
    """Whether the expression is a list of such futures, or a local name for one that is used for nothing else."""
    if isinstance(node, (ast.ListComp, ast.SetComp)):
        return starts_future(file, node.elt)
    if isinstance(node, (ast.List, ast.Set, ast.Tuple)):
        return all(starts_future(file, each) for each in node.elts)
    if isinstance(node, ast.DictComp):
        return starts_future(file, node.key)
    if not isinstance(node, ast.Name) or not file.owned_by(node, owner):
        return False
    values = file.values(node)
    made = bool(values) and all(
        value is not None and not isinstance(value, ast.Name) and are_futures(file, value, owner) for value in values
    )
    return made and all(uses_as_list(file, use, owner) for use in file.uses(node)) and is_filled(file, node)


def is_filled(file: File, node: ast.Name) -> bool:
    """An empty list has to get its futures from an append."""
    empty = [value for value in file.values(node) if isinstance(value, ast.List) and not value.elts]
    return not empty or any(file.method_call(use, "append") for use in file.uses(node))


def uses_as_future(file: File, use: ast.expr, owner: ast.AST) -> bool:
    """Whether the use only reads the result, or puts the future into a list."""
    parent = file.parent(use)
    if isinstance(parent, ast.Attribute):
        return parent.attr in READS and file.frame(use) is owner
    return isinstance(parent, ast.Call) and isinstance(parent.func, ast.Attribute) and parent.func.attr == "append"


def uses_as_list(file: File, use: ast.expr, owner: ast.AST) -> bool:
    parent = file.parent(use)
    if isinstance(parent, ast.Subscript):
        return isinstance(parent.ctx, ast.Load) and getattr(file.parent(parent), "attr", "") in READS
    if isinstance(parent, ast.Attribute) and parent.attr == "append":
        call = file.parent(parent)
        given = call.args[0] if isinstance(call, ast.Call) and call.args else None
        named = isinstance(given, ast.Name) and all(starts_future(file, value) for value in file.values(given))
        return starts_future(file, given) or named
    if isinstance(parent, ast.Call):
        return file.qualified(parent.func) in (
            "concurrent.futures.wait",
            "concurrent.futures.as_completed",
            "builtins.len",
        )
    return isinstance(parent, (ast.For, ast.comprehension)) and parent.iter is use and never_asks(file, parent, owner)


def never_asks(file: File, loop: ast.For | ast.comprehension, owner: ast.AST) -> bool:
    """Whether a loop over futures runs in the coroutine, and never asks whether they are done: then they may be."""
    drawn_names = {part.id for part in walk(loop.target) if isinstance(part, ast.Name)}
    body = file.parent(loop) if isinstance(loop, ast.comprehension) else loop
    asks = any(
        isinstance(each, ast.Attribute) and each.attr in ASKS and dotted(each.value) in drawn_names
        for each in walk(body)
    )
    return file.frame(loop.iter) is owner and not asks
