"""Why a plain function cannot run in a thread: it belongs to the event loop's thread, or changes what others share.

def record(self, row):                `asyncio.to_thread(self.record, row)` would change `self.rows` while
    self.rows.append(row)             coroutines read it, and two threads would do it at once
"""

from __future__ import annotations

import ast

from hangdebug.repair.code.bindings import walk
from hangdebug.repair.code.file import File, dotted, last_name
from hangdebug.repair.code.while_awaiting import CHANGES

LOOPED = ("asyncio", "anyio", "trio", "uvloop")
ON_LOOP = frozenset("call_soon call_later call_at create_task create_future run_until_complete start_soon".split())
AT_ONCE = "which several threads would do at once"
MOST_CALLEES = 50


def why_on_loop(file: File, home: ast.FunctionDef, name: str, seen: set[ast.AST]) -> str:
    """What the function, or what it calls in the file `name`, has against a thread; "" where nothing is known.

    `seen` holds the functions that were looked at, this one included.
    """
    for each in walk(home):
        if isinstance(each, (ast.Yield, ast.YieldFrom)) and file.frame(each) is home and len(seen) == 1:
            return f"{home.name}() is a generator, whose body runs where it is looped over, not in the thread"
        reason = why_against(file, home, each)
        if reason:
            return f"{home.name}() in line {file.line(each)} of {name} {reason}"
        for callee in functions_called(file, each) if isinstance(each, ast.Call) else ():
            if callee not in seen and len(seen) < MOST_CALLEES:
                seen.add(callee)
                reason = why_on_loop(file, callee, name, seen)
                if reason:
                    return reason
    return ""


def functions_called(file: File, call: ast.Call) -> list[ast.FunctionDef]:
    """The plain function, or the method of the same class, that the call means."""
    if isinstance(call.func, ast.Name):
        found: list[ast.AST] = [item.node for item in file.lookup(call.func, call.func.id)[1]]
    else:
        inside = isinstance(call.func, ast.Attribute) and dotted(call.func.value) in ("self", "cls")
        owner = file.home(call) if inside else None
        found = [each for each in owner.body if getattr(each, "name", "") == last_name(call.func)] if owner else []
    return [each for each in found if isinstance(each, ast.FunctionDef)]


def why_against(file: File, home: ast.FunctionDef, each: ast.AST) -> str:
    """What one node of the function has against a thread, in words."""
    if isinstance(each, ast.Global):
        return f"changes `{each.names[0]}`, {AT_ONCE}"
    if isinstance(each, ast.Nonlocal):
        around = file.lookup(home, each.names[0])[0]
        of_coroutine = around is not None and isinstance(around.node, ast.AsyncFunctionDef)
        return "" if of_coroutine else f"changes `{each.names[0]}`, {AT_ONCE}"
    if isinstance(each, ast.Call) and last_name(each.func) in ON_LOOP:
        return f"calls `{file.short(each.func)}`, which belongs to the event loop's thread"
    held = what_it_changes(each)
    if held is not None and home.name != "__init__" and not is_its_own(file, held):
        return f"changes `{file.short(held)}`, {AT_ONCE}"
    if isinstance(each, (ast.Name, ast.Attribute)) and dotted(each) and isinstance(each.ctx, ast.Load):
        return why_against_use(file, home, each)
    return ""


def what_it_changes(node: ast.AST) -> ast.expr | None:
    """What the node writes to, or changes by a method such as `append`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
        return node.func.value
    stored = isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load)
    return node if stored and isinstance(node, ast.expr) else None


def is_its_own(file: File, held: ast.expr) -> bool:
    """Whether it belongs to a variable that the function around it makes itself."""
    root = next((part for part in walk(held) if isinstance(part, ast.Name)), None)
    if root is None:
        return True
    scope, bound = file.lookup(root, root.id)
    given = any(isinstance(item.node, ast.arg) for item in bound)
    return scope is file.scopes.opened.get(file.frame(held)) and not given


def why_against_use(file: File, home: ast.FunctionDef, each: ast.Name | ast.Attribute) -> str:
    made, known, said = file.maker(each), file.qualified(each), file.short(each)
    if known.split(".")[0] in LOOPED or made.split(".")[0] in ("asyncio", "anyio"):
        return f"uses `{said}`, which belongs to the event loop's thread"
    if known.split(".")[0] == "signal":
        return f"uses `{said}`, which only the main thread may"
    inside = file.lookup(each, dotted(each).split(".")[0])[0] is file.scopes.opened[home]
    if made == "sqlite3.connect" and (not inside or isinstance(each, ast.Attribute)):
        return f"uses `{said}`, and a sqlite3 connection belongs to the thread that made it"
    if made == "threading.local":
        return f"uses `{said}`, which has another value in each thread"
    if made == "contextvars.ContextVar" and file.method_call(each, "set", "reset"):
        return f"sets `{said}`, and a thread sets only its own copy"
    return ""
