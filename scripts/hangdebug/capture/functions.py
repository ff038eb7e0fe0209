"""The application's functions that could end a wait, and those that lead to them: read from the source of its modules.

Names are all that is followed: a function counts as called wherever its name is mentioned. That may keep one too
many, which costs a finding, rather than one too few, which would cost a false alarm.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Union

from hangdebug.evidence.model import Function
from hangdebug.evidence.source import file_lines

MOST_FILES, MOST_CHARACTERS, MOST_SECONDS = 1000, 400_000, 1.5
# How many arguments the call that ends a wait can have: `event.set()` is one, `cache.set(key, value)` is none.
ENDS_A_WAIT = {
    "set": (0,),
    "release": (0, 1),
    "notify": (0, 1),
    "notify_all": (0,),
    "put": (1,),
    "put_nowait": (1,),
    "get": (0,),
    "get_nowait": (0,),
    "task_done": (0,),
    "set_result": (1,),
    "set_exception": (1,),
    "send": (1,),
    "send_nowait": (1,),
    "receive": (0,),
    "receive_nowait": (0,),
    "close": (0,),
    "aclose": (0,),
}
# A function under one of these decorators is called by the application itself, or once, when it starts or ends.
KEEPS_THE_FUNCTION = frozenset(
    "asynccontextmanager contextmanager staticmethod classmethod property setter cached_property "
    "lru_cache cache wraps on_event overload override abstractmethod dataclass".split()
)
STARTS = ("start_soon",)  # runs the function at once, and no other time
AT_START = ("lifespan", "on_startup", "on_shutdown")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
Definition = Union[ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef]
MODULE = "<module>"


def functions_that_end_waits(files: Iterable[str], process: str = "") -> tuple[Function, ...] | None:
    """What could end a wait in `files`; None where one of them cannot be read, or there are too many.

    `process` is /proc/PID of a live one: its files are read as it sees them.
    """
    began = time.monotonic()
    found: list[Function] = []
    passed: set[str] = set()
    for number, file in enumerate(files):
        text = "\n".join(file_lines(file, process))
        if (not text and not file.endswith("__init__.py")) or len(text) > MOST_CHARACTERS:
            return None
        if number >= MOST_FILES or time.monotonic() - began > MOST_SECONDS:
            return None
        try:
            tree = ast.parse(text)
            found += functions_in(tree, file)
            passed |= set(names_handed_on(tree))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    return those_that_lead_to_an_end(with_roots_marked(found, passed))


def functions_in(node: Definition, file: str, owner: str = "", bases: bool = False) -> Iterator[Function]:
    """The functions in a tree, those inside of others too; the body of a module counts as one."""
    own, name = list(nodes_of(node)), getattr(node, "name", MODULE)
    if not isinstance(node, ast.ClassDef):
        line, last = (0, 0) if isinstance(node, ast.Module) else lines_of(node)
        public = not (name.startswith("__") and name.endswith("__"))
        root = (bases and public) or any(map(hands_on, getattr(node, "decorator_list", ())))
        yields = any(isinstance(one, (ast.Yield, ast.YieldFrom)) for one in own)
        loops = tuple(lines_of(one) for one in own if isinstance(one, (ast.While, ast.For, ast.AsyncFor)))
        yield Function(
            name, file, line, last, owner, root, yields, calls_that_end_waits(own), *names_and_awaits(own), loops
        )
    for one in own:
        if isinstance(one, DEFINITIONS):
            of_class = node if isinstance(node, ast.ClassDef) else None
            yield from functions_in(one, file, name if of_class else "", of_class is not None and bool(of_class.bases))


def lines_of(node: ast.stmt) -> tuple[int, int]:
    return node.lineno, node.end_lineno or node.lineno


def nodes_of(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, class or module; of the definitions inside only themselves."""
    todo = [node]
    while todo:
        for child in ast.iter_child_nodes(todo.pop()):
            yield child
            if not isinstance(child, DEFINITIONS):
                todo.append(child)


def hands_on(decorator: ast.AST) -> bool:
    """Whether a decorator hands the function to somebody else, as a route's does."""
    return last_name(decorator.func if isinstance(decorator, ast.Call) else decorator) not in KEEPS_THE_FUNCTION


def calls_that_end_waits(own: list[ast.AST]) -> tuple[tuple[str, int], ...]:
    """What could end a wait, with its line: "set" where it is called, "+set" where it is handed on, or called later."""
    called = {id(one.func): one for one in own if isinstance(one, ast.Call)}
    delayed = {id(part) for one in own if isinstance(one, ast.Lambda) for part in ast.walk(one)}
    found = []
    for one in own:
        if isinstance(one, ast.Attribute) and one.attr in ENDS_A_WAIT and isinstance(one.ctx, ast.Load):
            call = called.get(id(one))
            if call is None or has_fitting_arguments(one.attr, call):
                found.append((one.attr if call is not None and id(one) not in delayed else f"+{one.attr}", one.lineno))
        elif isinstance(one, ast.AsyncFor):  # reads a stream to its end
            found.append(("receive", one.lineno))
        elif isinstance(one, (ast.With, ast.AsyncWith)):  # closes a stream at its end
            found.append(("close", lines_of(one)[1]))
    return tuple(found)


def names_and_awaits(own: list[ast.AST]) -> tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]]:
    """The names that a body mentions, and what it awaits. What a `with` enters is called again at the block's end."""
    names = [
        (last_name(one), one.lineno)
        for one in own
        if isinstance(one, (ast.Name, ast.Attribute)) and isinstance(one.ctx, ast.Load)
    ]
    awaits = [
        (short_name(one.value.func), one.lineno)
        for one in own
        if isinstance(one, ast.Await) and isinstance(one.value, ast.Call)
    ]
    for one in own:
        if isinstance(one, (ast.With, ast.AsyncWith)):
            inside = [part for item in one.items for part in ast.walk(item.context_expr) if last_name(part)]
            names += [(name, lines_of(one)[1]) for name in ("__exit__", "__aexit__", *map(last_name, inside))]
            awaits += [(f"with {short_name(item.context_expr)}", one.lineno) for item in one.items]
    return tuple(names), tuple(awaits)


def has_fitting_arguments(name: str, call: ast.Call) -> bool:
    return (
        any(isinstance(one, ast.Starred) for one in call.args)
        or len(call.args) + len(call.keywords) in ENDS_A_WAIT[name]
    )


def last_name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def short_name(node: ast.AST) -> str:
    """The last two parts of a dotted name: "ready.wait" for `app.state.ready.wait`."""
    if isinstance(node, ast.Call):
        return short_name(node.func)
    if isinstance(node, ast.Attribute):
        return f"{last_name(node.value)}.{node.attr}"
    return last_name(node)


def names_handed_on(tree: ast.AST) -> Iterator[str]:
    """The names that are handed on instead of called: whoever gets one may call it later."""
    nodes = list(ast.walk(tree))
    calls = [one for one in nodes if isinstance(one, ast.Call)]
    skipped = {id(one.func) for one in calls}
    skipped |= {id(one.args[0]) for one in calls if one.args and last_name(one.func) in STARTS}
    skipped |= {id(one.value) for one in nodes if isinstance(one, ast.keyword) and one.arg in AT_START}
    skipped |= {id(one.value) for one in nodes if isinstance(one, (ast.Attribute, ast.Subscript))}
    skipped |= {
        id(part) for one in nodes for not_a_value in types_and_decorators(one) for part in ast.walk(not_a_value)
    }
    for one in nodes:
        if id(one) not in skipped and last_name(one) and isinstance(getattr(one, "ctx", None), ast.Load):
            yield last_name(one)


def types_and_decorators(node: ast.AST) -> list[ast.AST]:
    """The parts of a node that name types or decorators: nobody calls a function because it is named there."""
    parts = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    if isinstance(node, ast.ExceptHandler):
        parts.append(node.type)
    if isinstance(node, DEFINITIONS):
        parts += [*node.decorator_list, *getattr(node, "bases", ())]
    return [one for one in parts if isinstance(one, ast.AST)]


def with_roots_marked(found: list[Function], passed: set[str]) -> list[Function]:
    """With those marked that somebody else may call: handed on, of a class that is, or a method nobody mentions."""
    mentioned = {name for one in found for name, _ in one.calls}
    return [
        replace(
            one,
            root=one.root
            or one.name in passed
            or one.owner in passed
            or (bool(one.owner) and one.name not in mentioned and not one.name.startswith("__")),
        )
        for one in found
    ]


def those_that_lead_to_an_end(found: list[Function]) -> tuple[Function, ...]:
    """Those that end a wait and all that lead to one of them, with the mentions that matter."""
    mentioned = [{name for name, _ in one.calls} for one in found]
    kept = {index for index, one in enumerate(found) if one.ends}
    fresh = set(kept)
    names: set[str] = set()
    while fresh:
        new = {name for index in fresh for name in (found[index].name, found[index].owner) if name} - names
        names |= new
        fresh = {index for index, said in enumerate(mentioned) if index not in kept and not new.isdisjoint(said)}
        kept |= fresh
    return tuple(
        replace(one, calls=tuple((name, line) for name, line in one.calls if name in names))
        for index, one in enumerate(found)
        if index in kept
    )
