"""What the file shows to be an executor of concurrent.futures, and what it shows less well.

    Pool = ThreadPoolExecutor             `Pool(4)` makes one; so do a subclass that keeps the exit, a function
    self.pool = Pool(4)                   that returns a fresh one, and either branch of a choice

A parameter that is annotated as one, one of several in a list, the loop's own, and an object of a class with an exit
of its own are executors too, but whether others count on the wait at their end is not known from the file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hangdebug.repair.code.bindings import Binding, defaults_of, walk
from hangdebug.repair.code.file import File, dotted, is_none, root_name
from hangdebug.repair.code.receivers import what_is

MODULES = ("concurrent.futures", "concurrent.futures.thread", "concurrent.futures.process")
THREADS, PROCESSES = CLASSES = ("ThreadPoolExecutor", "ProcessPoolExecutor")
EXECUTORS = frozenset(f"{module}.{name}" for module in MODULES for name in CLASSES)
MADE = frozenset(f"{name}()" for name in EXECUTORS)  # as `receivers` writes it
BASES = frozenset(("concurrent.futures.Executor", "concurrent.futures._base.Executor"))
OWN_EXIT = {"__enter__", "__exit__", "shutdown", "__getattr__", "__getattribute__"}
DEPTH = 5  # of second names and subclasses that are followed
LOOP_S_OWN = (
    "it is the loop's own executor, on which asyncio.to_thread() and name lookups rely: leave it to the loop, or "
    "await loop.shutdown_default_executor() where the program ends"
)
ONE_OF_SEVERAL = (
    "it is one of several executors, and the work of each is not followed here: await asyncio.to_thread() for each"
)


def is_executor_class(file: File, node: ast.AST | None, depth: int = DEPTH) -> bool:
    """Whether the expression names a class of executors, by whatever name."""
    if isinstance(node, ast.IfExp):  # Pool = ProcessPoolExecutor if heavy else ThreadPoolExecutor
        return is_executor_class(file, node.body, depth) and is_executor_class(file, node.orelse, depth)
    if isinstance(node, ast.Attribute):
        return file.qualified(node) in EXECUTORS
    found = file.lookup(node, node.id)[1] if isinstance(node, ast.Name) and depth else []
    return bool(found) and all(binds_executor_class(file, item, depth - 1) for item in found)


def binds_executor_class(file: File, item: Binding, depth: int) -> bool:
    if isinstance(item.node, ast.ClassDef):
        plain = not methods_of(item.node).keys() & OWN_EXIT and len(item.node.bases) == 1
        return plain and is_executor_class(file, item.node.bases[0], depth)
    return item.qualified in EXECUTORS or is_executor_class(file, assigned_value(file, item), depth)


def methods_of(home: ast.ClassDef) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    return {each.name: each for each in home.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))}


def creates_executor(file: File, node: ast.AST | None) -> bool:
    """Whether the expression is a call that makes an executor, or makes one on either branch."""
    if isinstance(node, ast.IfExp):
        return creates_executor(file, node.body) and creates_executor(file, node.orelse)
    if not isinstance(node, ast.Call):
        return False
    made = next((each.value for each in node.keywords if each.arg == "default_factory"), None)
    if made is not None and file.qualified(node.func) == "dataclasses.field":
        inner = made.body if isinstance(made, ast.Lambda) else None
        return is_executor_class(file, inner.func if isinstance(inner, ast.Call) else made)
    return is_executor_class(file, node.func) or returns_executor(file, node.func)


def returns_executor(file: File, func: ast.expr) -> bool:
    """Whether it names a plain function or method of the tree that returns a fresh pool of threads each time."""
    found = what_is(file, func)
    home, there = found.node, found.file
    if there is None or not isinstance(home, ast.FunctionDef) or home.decorator_list:
        return False
    ends = [each for each in there.run_by(home) if isinstance(each, (ast.Return, ast.Yield, ast.YieldFrom))]
    made = [each.value.func for each in ends if isinstance(each, ast.Return) and isinstance(each.value, ast.Call)]
    threads = [each for each in made if is_executor_class(there, each)]
    return len(threads) == len(ends) > 0 and not any(there.qualified(each).endswith(PROCESSES) for each in threads)


def is_executor(file: File, node: ast.expr) -> bool:
    """Whether the expression gives an executor, whoever else may use it."""
    known = is_known(file, node) or file.maker(node) in EXECUTORS or is_annotated(file, node)
    return known or what_is(file, node).trail in MADE


def is_known(file: File, node: ast.expr) -> bool:
    """Whether the expression gives an executor that the file makes, and that goes by one name."""
    return creates_executor(file, node) or (isinstance(node, (ast.Name, ast.Attribute)) and holds_executor(file, node))


def holds_executor(file: File, node: ast.expr) -> bool:
    """Whether everything that the name or attribute is given is an executor, or None before there is one.

    A name is looked up in its scope, `self.pool` in the class around it, `app.state.pool` in the function around it,
    or in the whole file if that binds `app`. A parameter is unknown, whatever its annotation says.
    """
    given = values_of(file, node)
    return bool(given) and all(creates_executor(file, value) for value in given)


def values_of(file: File, node: ast.expr) -> list[ast.expr | None]:
    """What is given to the name or attribute, None where that cannot be told."""
    if isinstance(node, ast.Name):
        given = [assigned_value(file, item) for item in file.lookup(node, node.id)[1]]
        return [value for value in given if not is_none(value)]
    name = dotted(node)
    if not isinstance(node, ast.Attribute) or not name or name.split(".")[0] in ("self", "cls"):
        return file.values(node) if name else []
    shared, home = belongs_to_module(file, node), function_around(file, node)
    written = [
        value
        for target, value in file.scopes.written(node.attr)
        if dotted(target) == name
        and (belongs_to_module(file, target) if shared else home is not None and function_around(file, target) is home)
    ]
    return [value for value in written if not is_none(value)]


def assigned_value(file: File, item: Binding) -> ast.expr | None:
    """The value of the binding, None where it is one of several that are unpacked."""
    return None if isinstance(file.scopes.parent(item.node), (ast.Tuple, ast.List)) else item.value


def belongs_to_module(file: File, node: ast.expr) -> bool:
    """Whether an attribute belongs to what the module itself binds, such as its `app`."""
    root = root_name(node)
    return root is not None and file.lookup(root, root.id)[0] is file.scopes.module


def function_around(file: File, node: ast.AST) -> ast.AST | None:
    return next((up for up in file.above(node) if isinstance(up, (ast.FunctionDef, ast.AsyncFunctionDef))), None)


def only_place(file: File, node: ast.AST | None) -> ast.AST | None:
    """The one place that binds the name, None where there are more or none."""
    item = only_binding(file, node)
    return item.node if item else None


def only_binding(file: File, node: ast.AST | None) -> Binding | None:
    found = file.lookup(node, node.id)[1] if isinstance(node, ast.Name) else []
    return found[0] if len(found) == 1 else None


# -- known less well: refused aloud, not mended ---------------------------------------------------------------


def why_known_less(file: File, receiver: ast.expr) -> str:
    """Why an executor that no single name stands for is not mended: a parameter, the loop's own, one of several."""
    item = only_binding(file, receiver)
    meant = receiver if item is None else assigned_value(file, item)
    if isinstance(meant, ast.Attribute) and meant.attr == "_default_executor":
        return LOOP_S_OWN
    if one_of_several(file, receiver):
        return ONE_OF_SEVERAL
    if is_annotated(file, receiver):
        return f"`{dotted(receiver)}` is a parameter, and whether its caller counts on this wait is not known here"
    elsewhere = isinstance(meant, ast.Attribute) and not holds_executor(file, receiver)
    if elsewhere and what_is(file, receiver).trail in MADE:
        return f"`{file.short(receiver)}` belongs to others too, and whether they count on this wait is not known here"
    return ""


def is_annotated(file: File, node: ast.expr) -> bool:
    """Whether it is a parameter that says that it is one: `pool: ThreadPoolExecutor`, or an `Annotated` of that."""
    arg = only_place(file, node)
    said = arg.annotation if isinstance(arg, ast.arg) else None
    item = only_binding(file, said)
    meant = assigned_value(file, item) if item else None  # Pool = Annotated[ThreadPoolExecutor, ...]
    parts = [part for each in (said, meant) if each is not None for part in walk(each)]
    return any(
        is_executor_class(file, part) or file.qualified(part) in BASES or quoted_name(file, part) in EXECUTORS | BASES
        for part in parts
    )


def quoted_name(file: File, node: ast.AST) -> str:
    """The dotted name that imports give an annotation in quotes, or ""."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return ""
    root, dot, rest = node.value.partition(".")
    found = file.lookup(node, root)[1]
    return f"{found[0].qualified}{dot}{rest}" if len(found) == 1 else ""


def one_of_several(file: File, receiver: ast.expr) -> bool:
    """Whether it is drawn from a list or a dictionary that holds nothing but executors."""
    if isinstance(receiver, ast.Subscript):
        return all_executors(file, receiver.value)
    target = only_place(file, receiver)
    if target is None or isinstance(target, ast.Module):
        return False
    while isinstance(file.parent(target), (ast.Tuple, ast.List)):
        target = file.parent(target)
    loop = file.parent(target)
    if not isinstance(loop, (ast.For, ast.AsyncFor, ast.comprehension)) or loop.target is not target:
        return False
    func = loop.iter.func if isinstance(loop.iter, ast.Call) else None
    source = func.value if isinstance(func, ast.Attribute) and func.attr in ("values", "items") else loop.iter
    return all_executors(file, source)


def all_executors(file: File, node: ast.expr) -> bool:
    parts = [list(held_in(value)) for value in (values_of(file, node) if dotted(node) else [node])]
    return bool(parts) and all(part and all(creates_executor(file, each) for each in part) for part in parts)


def held_in(value: ast.expr | None) -> Iterator[ast.expr]:
    if isinstance(value, ast.Dict):
        yield from value.values
    elif isinstance(value, (ast.List, ast.Tuple, ast.Set)):
        yield from value.elts
    elif isinstance(value, ast.DictComp):
        yield value.value
    elif isinstance(value, (ast.ListComp, ast.SetComp, ast.GeneratorExp)):
        yield value.elt


def why_own_exit(file: File, node: ast.expr) -> str:
    """Why an object of a class in the file whose own exit waits as the executor's does is not mended, else ""."""
    made = [node] if isinstance(node, ast.Call) or not dotted(node) else values_of(file, node)
    home = only_place(file, made[0].func) if len(made) == 1 and isinstance(made[0], ast.Call) else None
    if not isinstance(home, ast.ClassDef) or len(home.bases) != 1 or not is_executor_class(file, home.bases[0]):
        return ""
    own = methods_of(home)
    if own.keys() & OWN_EXIT - {"__enter__", "__exit__", "shutdown"}:
        return ""
    for name in ("__exit__", "shutdown"):
        for call in (each for each in walk(own[name]) if isinstance(each, ast.Call)) if name in own else ():
            base = call.func.value if isinstance(call.func, ast.Attribute) and call.func.attr == name else None
            if not isinstance(base, ast.Call) or dotted(base.func) != "super":
                continue
            if name == "__exit__" or says_wait(call) or (says_wait(call) is None and waits_by_default(own[name])):
                return f"its class has an exit of its own, which joins in line {call.lineno}: mend it there"
    return ""


def says_wait(call: ast.Call) -> bool | None:
    """What a `shutdown()` says of `wait`: True where it says nothing, None where only the run can tell."""
    if any(isinstance(each, ast.Starred) for each in call.args) or any(each.arg is None for each in call.keywords):
        return None
    given = [*call.args, *(each.value for each in call.keywords if each.arg == "wait"), ast.Constant(True)]
    said = given[0].value if isinstance(given[0], ast.Constant) else None
    return bool(said) if said in (True, False) else None


def waits_by_default(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether its `wait` is true where the caller says nothing."""
    given = [value for arg, value in defaults_of(function.args).items() if arg.arg == "wait" and value is not None]
    return not given or (isinstance(given[0], ast.Constant) and given[0].value is True)


def is_pool_of_processes(file: File, receiver: ast.expr) -> bool:
    """Whether it is a module's pool of processes: its end is the end of the program, and is to be waited for."""
    if not isinstance(receiver, ast.Name) or file.lookup(receiver, receiver.id)[0] is not file.scopes.module:
        return False
    made = [file.qualified(value.func) for value in values_of(file, receiver) if isinstance(value, ast.Call)]
    return bool(made) and all(name.endswith(PROCESSES) for name in made)


# -- where the server starts and stops: there a join is meant, while nothing is served --------------------------


def runs_at_start_or_stop(file: File, owner: ast.AsyncFunctionDef, depth: int = 3) -> bool:
    """Whether the function is a lifespan or an event handler, or is called by one."""
    for each in owner.decorator_list:
        call = each.func if isinstance(each, ast.Call) else each
        manager = file.qualified(call) == "contextlib.asynccontextmanager"
        if dotted(call).endswith(".on_event") or (manager and serves_app(file, owner)):
            return True
    callers = {file.coroutine(use) for use in file.uses(owner)} - {None, owner} if depth else set()
    return any(runs_at_start_or_stop(file, each, depth - 1) for each in callers if each is not None)


def serves_app(file: File, owner: ast.AsyncFunctionDef) -> bool:
    passed = any(
        each.arg in ("lifespan", "lifespan_context") and dotted(each.value) == owner.name
        for call in file.calls
        for each in call.keywords
    )
    first = [each.arg for each in owner.args.args[:1]]
    return passed or "lifespan" in owner.name or first in (["app"], ["_app"])
