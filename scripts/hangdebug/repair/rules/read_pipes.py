"""Read a child's pipes while waiting for it.

    child = await create_subprocess_exec(     child = await create_subprocess_exec(
        "make", stdout=PIPE)                      "make", stdout=PIPE)
    await child.wait()                        await child.communicate()

A pipe holds 64 KiB. A child that has written that much stands in its next write until somebody reads, and the coroutine
stands in `wait()` until the child ends: each waits for the other.

What changes: what the child writes is read, kept until it ends, and thrown away, as nobody asked for it. Its standard
input, if that is a pipe, is closed.

Refused aloud: a pipe that is read only after the wait, a result of `wait()` that is used in the middle of a statement.

Left alone: a child whose pipes something in the function reads, or that is handed on; output that goes to no pipe.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hangdebug.repair.code.file import File
from hangdebug.repair.code.findings import Found, Need
from hangdebug.repair.model import Edit

ID, CODE = "read_pipes", "HNG010"
NEEDS = (Need((("create_subprocess_",), ("PIPE",)), frozenset(("wait",))),)
MAKERS = ("asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell")
PIPES = ("asyncio.subprocess.PIPE", "subprocess.PIPE")
PLAIN = frozenset("wait returncode pid kill terminate send_signal".split())
FULL = "a child that fills its pipe waits for a reader, and this waits for the child"
LATER = "line {} reads it only afterwards: `out, errors = await {}.communicate()` does both at once"
USED = "what it gives is used there: write `await {0}.communicate()` in a line of its own, and use `{0}.returncode`"


def search(file: File) -> Iterator[Found]:
    for call in file.calls_in_coroutines:
        func = call.func
        if not isinstance(func, ast.Attribute) or func.attr != "wait" or not isinstance(func.value, ast.Name):
            continue
        if call.args or call.keywords or not is_piped(file, func.value):
            continue
        yield from answer(file, call, func.value)


def is_piped(file: File, child: ast.Name) -> bool:
    """Whether the function made the child, with its output in a pipe."""
    frame = file.frame(child)
    values = file.values(child) if file.coroutine(child) and file.owned_by(child, frame) else []
    calls = [value.value for value in values if isinstance(value, ast.Await) and isinstance(value.value, ast.Call)]
    return len(calls) == len(values) > 0 and all(
        file.qualified(call.func) in MAKERS
        and any(each.arg in ("stdout", "stderr") and file.qualified(each.value) in PIPES for each in call.keywords)
        for call in calls
    )


def answer(file: File, call: ast.Call, child: ast.Name) -> Iterator[Found]:
    uses = [(use, getattr(file.parent(use), "attr", "")) for use in file.uses(child)]
    name, said = child.id, f"{child.id}.wait() reads no pipe: {FULL}"
    if any(file.frame(use) is not file.frame(child) for use, _ in uses):
        return
    others = [(use, attr) for use, attr in uses if attr not in PLAIN]
    if others and all(attr in ("stdout", "stderr") and file.start(use) > file.start(call) for use, attr in others):
        yield Found(call, f"{said}, but {LATER.format(others[0][0].lineno, name)}", refused=True)
    if others:
        return
    statement = file.statement(call)
    behind = file.end(call.func), file.end(call)
    if isinstance(statement, ast.Expr) and waits_alone(file, call, statement.value):
        yield Found(call, f"{said}; it becomes {name}.communicate()", (Edit(*spot(file, call), "communicate"),))
        return
    target = statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None
    plain = isinstance(target, ast.Name) and not file.indent(statement).strip() and behind[1] == file.end(statement)
    if plain and target is not None and isinstance(statement, ast.Assign) and waits_alone(file, call, statement.value):
        line = f"{file.newline}{file.indent(statement)}{file.source(target)} = {name}.returncode"
        edits = (
            Edit(file.start(statement), file.start(statement.value), ""),
            Edit(*spot(file, call), "communicate"),
            Edit(file.end(statement), file.end(statement), line),
        )
        yield Found(call, f"{said}; it becomes {name}.communicate(), and `{name}.returncode` behind it", edits)
        return
    yield Found(call, f"{said}, but {USED.format(name)}", refused=True)


def spot(file: File, call: ast.Call) -> tuple[int, int]:
    """Where the name of the method stands."""
    return file.end(call.func) - len("wait"), file.end(call.func)


def waits_alone(file: File, call: ast.Call, value: ast.expr) -> bool:
    """Whether the statement awaits the call, or `asyncio.wait_for` of it, and nothing else."""
    inner = value.value if isinstance(value, ast.Await) else None
    if isinstance(inner, ast.Call) and file.qualified(inner.func) == "asyncio.wait_for" and inner.args:
        inner = inner.args[0]
    return inner is call
