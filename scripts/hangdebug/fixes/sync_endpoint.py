"""Make a route a plain `def` where it awaits nothing and calls what blocks.

    @app.get("/report")                   @app.get("/report")
    async def report():                   def report():
        return requests.get(URL).text         return requests.get(URL).text

FastAPI runs a `def` route in a thread of its pool, an `async def` route on the event loop: there each blocking
call holds up every other request.

What changes: several requests may run the function at once, in different threads (40 at most, by default); a
client that leaves no longer matters to it. So the rewrite is made only where the function touches nothing that
others share: it assigns to its own names alone, and calls imported packages, classes, and methods of its own
values. Other routes are left to the rules `sleep`, `to_thread` and `await_future`, call by call.

Left alone: routes that await anything, or block nowhere; routes with another decorator, or that the file itself
uses by name; everything that is not a route of a FastAPI or APIRouter made in this file.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Iterator

from hangdebug.fixes._bindings import parameters, walk
from hangdebug.fixes import _blocking
from hangdebug.fixes._blocking import blocking
from hangdebug.fixes._file import File, dotted
from hangdebug.fixes._spans import Edit, Found, Need

ID = "sync_endpoint"
APPS = ("fastapi.FastAPI", "fastapi.APIRouter", "fastapi.routing.APIRouter", "fastapi.applications.FastAPI")
VERBS = frozenset("get post put patch delete head options trace api_route".split())
PAUSES = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom, ast.Global, ast.Nonlocal)
LOOPED = ("asyncio", "anyio", "contextvars", "threading", "trio", "nest_asyncio", "uvloop")
PACKAGES = {"requests", "httpx", "fastapi", "starlette", "pydantic", "builtins", "bcrypt", "sqlalchemy", "sqlmodel",
            *"base64 collections csv datetime decimal email functools gzip hashlib hmac html http io itertools json "
             "logging math os pathlib random re secrets shutil socket sqlite3 statistics string subprocess tempfile time "
             "typing urllib uuid zipfile".split()}
SESSIONS = ("sqlalchemy.orm.Session", "sqlalchemy.orm.session.Session", "sqlmodel.Session")
QUERIES = frozenset("execute scalar scalars exec commit refresh flush get query".split())
ROUTES = ("FastAPI", "APIRouter")
NEEDS = (Need((ROUTES, ("Session",)), QUERIES), *(replace(need, words=(*need.words, ROUTES)) for need in _blocking.NEEDS))


def search(file: File) -> Iterator[Found]:
    for node in walk(file.tree):
        if isinstance(node, ast.AsyncFunctionDef) and route(file, node):
            calls = blockers(file, node)
            if calls and stays_itself(file, node):
                yield found(file, node, calls)


def found(file: File, node: ast.AsyncFunctionDef, calls: list[str]) -> Found:
    start = file.start(node)
    gap = len("async") + next(i for i, c in enumerate(file.text[start + len("async"):]) if not c.isspace())
    message = (f"the route {node.name}() awaits nothing, and {calls[0]}() blocks the event loop in it; it becomes a "
               "plain `def`, which FastAPI runs in a thread")
    return Found(node, message, (Edit(start, start + gap, ""),))


def route(file: File, node: ast.AsyncFunctionDef) -> bool:
    return bool(node.decorator_list) and all(
        isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr in VERBS
        and file.maker(each.func.value) in APPS for each in node.decorator_list
    )


def blockers(file: File, node: ast.AsyncFunctionDef) -> list[str]:
    """The names of the calls in the function's own frame that are known to block."""
    calls = [each for each in file.run_by(node) if isinstance(each, ast.Call)]
    known = [item.name for each in calls for item in [blocking(file, each)] if item]
    known += [file.source(each.func) for each in calls if file.qualified(each.func) == "time.sleep"] if known else []
    return known or [dotted(each.func) for each in calls if queries(file, each, node)]


def queries(file: File, call: ast.Call, node: ast.AsyncFunctionDef) -> bool:
    """Whether it is a method of a database session that FastAPI passes in: `db: Session = Depends(get_db)`."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in QUERIES:
        return False
    taken = [each for each in (*node.args.args, *node.args.kwonlyargs) if each.arg == dotted(call.func.value)]
    return any(file.qualified(inner) in SESSIONS for each in taken if each.annotation
               for inner in walk(each.annotation))


def stays_itself(file: File, node: ast.AsyncFunctionDef) -> bool:
    """Whether the function does the same in a thread: it shares nothing, and needs no loop."""
    if any(item.node is not node for item in file.scopes.of[node].names[node.name]):
        return False
    if any(file.lookup(use, use.id)[0] is file.scopes.of[node] for use in file.scopes.reads.get(node.name, ())):
        return False
    return all(quiet(file, each, node) for each in walk(node) if each is not node)


def quiet(file: File, each: ast.AST, node: ast.AsyncFunctionDef) -> bool:
    ours = file.frame(each) is node
    if isinstance(each, PAUSES) and (ours or isinstance(each, (ast.Global, ast.Nonlocal))):
        return False
    if isinstance(each, ast.comprehension) and each.is_async and ours:
        return False
    if isinstance(each, ast.Name) and file.qualified(each).split(".")[0] in LOOPED:
        return False
    if isinstance(each, (ast.Attribute, ast.Subscript)) and not isinstance(each.ctx, ast.Load):
        return own(file, each, node) and not passed_in(file, each, node)
    return not isinstance(each, ast.Call) or not ours or harmless(file, each.func, node)


def own(file: File, each: ast.expr, node: ast.AsyncFunctionDef) -> bool:
    """Whether the expression starts from a name that the function itself binds, or from what a harmless call gives."""
    while isinstance(each, (ast.Attribute, ast.Subscript)):
        each = each.value
    if isinstance(each, ast.Call):
        return harmless(file, each.func, node)
    if not isinstance(each, ast.Name):
        return isinstance(each, (ast.Constant, ast.JoinedStr, ast.List, ast.Dict, ast.ListComp, ast.BinOp))
    scope = file.lookup(each, each.id)[0]
    return scope is not None and node in (scope.node, *file.above(scope.node))


def passed_in(file: File, each: ast.expr, node: ast.AsyncFunctionDef) -> bool:
    """Whether what is written to belongs to a parameter: others may hold it too."""
    names = {arg.arg for arg in parameters(node.args)}
    return any(isinstance(part, ast.Name) and part.id in names for part in walk(each.value))


def harmless(file: File, func: ast.expr, node: ast.AsyncFunctionDef) -> bool:
    """A call that shares nothing: a package, a builtin, a class by its name, a method of the function's own value."""
    name = file.qualified(func)
    if name:
        return name.split(".")[0] in PACKAGES or name.split(".")[-1][:1].isupper()
    if isinstance(func, ast.Attribute) and file.maker(func.value) == "logging.getLogger":
        return True
    if isinstance(func, ast.Name):
        bound = file.lookup(func, func.id)[1]
        return bool(bound) and all(isinstance(item.node, ast.ClassDef) for item in bound)
    return own(file, func, node)
