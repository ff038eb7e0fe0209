"""What an expression is, as far as the sources say: the names and calls that lead to it.

    r = redis.Redis()                     `r.get` is "redis.Redis().get", of a library
    db: Session = Depends(get_db)         `db.execute` is "sqlalchemy.orm.Session().execute"
    repo = Repo(db)                       `repo.load` is the method of the class Repo, in whichever file that is

An annotation counts as much as the call that makes the object: `Session` in a signature is an object of that class. A
name that the file imports is looked for in the other files of the tree. What has two meanings has none here.
"""

from __future__ import annotations

import ast
import weakref
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hangdebug.repair.code.aside import definitions, folder_of, place_of, read_other, text_of_other, who_keeps
from hangdebug.repair.code.bindings import Binding, defaults_of, parameters
from hangdebug.repair.code.file import File, dotted, is_empty, is_none, last_name
from hangdebug.repair.code.layout import tree_around

DEPTH = 12  # of names, calls and files that are followed one after the other
THREADS = (
    "asyncio.to_thread",
    "anyio.to_thread.run_sync",
    "starlette.concurrency.run_in_threadpool",
    "fastapi.concurrency.run_in_threadpool",
)
POOLS = ("asyncpg.create_pool",)  # gives what it makes once it is awaited
SAME = ("contextlib.closing", "copy.copy")  # what they are given is what they give
PLAIN_DECORATORS = frozenset(
    "staticmethod classmethod lru_cache cache contextmanager cached_property property inject retry".split()
)
ITERATORS = frozenset("Iterator Iterable Generator AsyncIterator AsyncGenerator AsyncIterable ContextManager".split())
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
UNLIKE = ("async", "aio")  # what is given something of these is no synchronous client


class Thing(NamedTuple):
    """`trail` of what a library gives, such as "redis.Redis().get"; or else the class, function or module `node` of
    `file`, an object of that class where `made`. All are empty where nothing is known.
    """

    trail: str = ""
    place: weakref.ref[File] | None = None  # a strong one would make a ring with the file's memo, which nothing frees
    node: ast.AST | None = None
    made: bool = False

    @property
    def file(self) -> File | None:
        return self.place() if self.place is not None else None


def defined(file: File, node: ast.AST, made: bool = False) -> Thing:
    return Thing(place=weakref.ref(file), node=node, made=made)


UNKNOWN = Thing()
ITSELF = Thing(made=True)  # what a name is that is given something of itself: `query = query.limit(5)`


def what_is(file: File, node: ast.AST | None, depth: int = DEPTH) -> Thing:
    """What the expression is."""
    if node is None or depth <= 0:
        return UNKNOWN
    known = file.memo.get(node)
    if isinstance(known, Thing):
        return known
    found = look_at(file, node, depth)
    if depth == DEPTH or found not in (UNKNOWN, ITSELF):
        file.memo[node] = found
    return found


def look_at(file: File, node: ast.AST, depth: int) -> Thing:
    if isinstance(node, ast.Name):
        return of_name(file, node, node.id, depth)
    if isinstance(node, ast.Attribute):
        return of_attribute(file, node, depth)
    if isinstance(node, ast.Call):
        return of_call(file, node, depth)
    if isinstance(node, ast.NamedExpr):
        return what_is(file, node.value, depth - 1)
    if isinstance(node, ast.Subscript):
        held = what_is(file, node.value, depth - 1)
        return Thing(f"{held.trail}[]") if held.trail else held if held is ITSELF else UNKNOWN
    if isinstance(node, ast.IfExp):
        return only(what_is(file, each, depth - 1) for each in (node.body, node.orelse) if not is_none(each))
    if isinstance(node, ast.BoolOp):
        return only(what_is(file, each, depth - 1) for each in node.values if not is_none(each))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):  # Path("a") / "b"
        folder = what_is(file, node.left, depth - 1)
        return folder if folder.trail.startswith("pathlib.") else UNKNOWN
    return of_awaited(file, node.value, depth) if isinstance(node, ast.Await) else UNKNOWN


def only(things: Iterable[Thing]) -> Thing:
    """The one thing that all of them are."""
    found = set(things) - {ITSELF}
    return found.pop() if len(found) == 1 else UNKNOWN


def of_name(file: File, node: ast.AST, name: str, depth: int) -> Thing:
    scope, found = file.lookup(node, name)
    if scope is None:
        return Thing(f"builtins.{name}") if isinstance(node, ast.Name) and file.qualified(node) else UNKNOWN
    key = (scope, name)
    known = file.memo.get(key)
    if isinstance(known, Thing):
        return known
    file.memo[key] = ITSELF
    given = only(of_binding(file, item, depth - 1) for item in found if not is_empty(item))
    file.memo[key] = given
    return given


def of_binding(file: File, item: Binding, depth: int) -> Thing:
    if item.qualified:
        return of_import(file, item.qualified, depth)
    if isinstance(item.node, (ast.ClassDef, *FUNCTION)):
        return defined(file, item.node)
    if isinstance(item.node, ast.arg):
        return of_parameter(file, item.node, depth)
    given = what_is(file, item.value, depth)
    return entered(given, depth) if isinstance(file.scopes.parent(item.node), ast.withitem) else given


def entered(given: Thing, depth: int) -> Thing:
    """What a `with` binds: the thing itself, unless its class says otherwise."""
    home = own_member(given, "__enter__")
    if home is None or given.file is None:
        return given
    returns = [each.value for each in given.file.run_by(home) if isinstance(each, ast.Return)]
    itself = all(isinstance(value, ast.Name) and value.id == "self" for value in returns)
    return given if itself else returned(given.file, home, depth)


# -- a parameter ---------------------------------------------------------------------------------------------


def of_parameter(file: File, arg: ast.arg, depth: int) -> Thing:
    """An object of the class that it is annotated with; `self`; what a dependency of FastAPI gives."""
    home = next((up for up in file.above(arg) if isinstance(up, (*FUNCTION, ast.Lambda))), None)
    if home is None:
        return UNKNOWN
    if arg.annotation is not None:
        said = object_of(file, arg.annotation, depth)
        if said != UNKNOWN:
            return said
    owner = file.scopes.parent(home)
    if isinstance(owner, ast.ClassDef) and parameters(home.args)[:1] == [arg] and arg.annotation is None:
        decorators = {dotted(each) for each in getattr(home, "decorator_list", ())}
        return UNKNOWN if "staticmethod" in decorators else defined(file, owner, made=arg.arg == "self")
    default = defaults_of(home.args).get(arg)
    given = of_dependency(file, default, depth)
    if given == UNKNOWN and arg.annotation is None and isinstance(default, (ast.Name, ast.Attribute)):
        usual = what_is(file, default, depth - 1)  # whoever gives another one gives one of that kind
        return usual if usual.trail.startswith("concurrent.futures.") else UNKNOWN
    return given


def of_dependency(file: File, node: ast.AST | None, depth: int) -> Thing:
    """What `Depends(get_db)` gives."""
    if not isinstance(node, ast.Call) or not file.qualified(node.func).endswith((".Depends", ".Security")):
        return UNKNOWN
    return called(what_is(file, node.args[0], depth - 1), depth, waited=True) if node.args else UNKNOWN


def object_of(file: File, said: ast.AST, depth: int) -> Thing:
    """An object of the class that an annotation names: `Session`, `"Session"`, `Session | None`, an `Annotated`."""
    if depth <= 0:
        return UNKNOWN
    if isinstance(said, ast.Constant) and isinstance(said.value, str):
        root, *rest = said.value.split(".")
        base = of_name(file, said, root, depth) if root.isidentifier() else UNKNOWN
        for name in rest:
            base = Thing(f"{base.trail}.{name}") if base.trail else member(base, name, depth)
        return made_of(base)
    if isinstance(said, ast.BinOp):
        return only(object_of(file, each, depth - 1) for each in (said.left, said.right) if not is_none(each))
    if isinstance(said, ast.Subscript):
        return of_generic(file, said, depth)
    if isinstance(said, ast.Name):
        alias = [item.value for item in file.lookup(said, said.id)[1]]
        if len(alias) == 1 and isinstance(alias[0], (ast.Subscript, ast.BinOp)):  # Db = Annotated[Session, ...]
            return object_of(file, alias[0], depth - 1)
    found = what_is(file, said, depth - 1)
    if isinstance(found.node, (ast.Subscript, ast.BinOp)) and found.file is not None:
        return object_of(found.file, found.node, depth - 1)
    return made_of(found)


def of_generic(file: File, said: ast.Subscript, depth: int) -> Thing:
    word = dotted(said.value).split(".")[-1]
    parts = said.slice.elts if isinstance(said.slice, ast.Tuple) else [said.slice]
    if word == "Annotated":
        given = object_of(file, parts[0], depth - 1)
        return given if given != UNKNOWN else only(of_dependency(file, each, depth) for each in parts[1:])
    if word in ("Optional", "Union"):
        return only(object_of(file, each, depth - 1) for each in parts if not is_none(each))
    return object_of(file, parts[0], depth - 1) if word in ITERATORS else UNKNOWN


def made_of(given: Thing) -> Thing:
    if given.trail:
        return Thing(f"{given.trail}()")
    return Thing(place=given.place, node=given.node, made=True) if isinstance(given.node, ast.ClassDef) else UNKNOWN


# -- an attribute ------------------------------------------------------------------------------------------


def of_attribute(file: File, node: ast.Attribute, depth: int) -> Thing:
    if isinstance(node.value, (ast.Name, ast.Attribute)) and last_name(node.value) == "state":
        given = kept_in_state(file, node, depth)
        if given != UNKNOWN:
            return given
    base = what_is(file, node.value, depth - 1)
    if base is ITSELF:
        return ITSELF
    return Thing(f"{base.trail}.{node.attr}") if base.trail else member(base, node.attr, depth)


def kept_in_state(file: File, node: ast.Attribute, depth: int) -> Thing:
    """What `app.state.redis` is given, which a handler reads as `request.app.state.redis`: here, or else elsewhere.

    What a lifespan yields by that name, `request.state.redis` is.
    """
    given = [(file, value) for value in (*put_into_state(file, node.attr), *yielded(file, node.attr))]
    if not given and last_name(getattr(node.value, "value", node)).endswith("app"):
        others = [read_other(path) for path in who_keeps(tree_around(file.name)).get(node.attr, ())]
        given = [(other, value) for other in others if other for value in put_into_state(other, node.attr)]
    return only(what_is(home, value, depth - 1) for home, value in given)


def put_into_state(file: File, name: str) -> list[ast.expr | None]:
    written = file.scopes.written(name)
    return [value for target, value in written if last_name(target.value) == "state" and not is_none(value)]


def yielded(file: File, name: str) -> list[ast.expr | None]:
    """What a lifespan of the file yields by the name: `yield {"pool": pool}`, `yield State(pool=pool)`."""
    if "asynccontextmanager" not in file.text:
        return []
    homes = [each for each in file.scopes.known_opened if isinstance(each, ast.AsyncFunctionDef)]
    parts = [part.value for each in homes for part in file.run_by(each) if isinstance(part, ast.Yield)]
    named = [(key, value) for each in parts if isinstance(each, ast.Dict) for key, value in zip(each.keys, each.values)]
    words = [word for each in parts if isinstance(each, ast.Call) for word in each.keywords]
    found = [value for key, value in named if isinstance(key, ast.Constant) and key.value == name]
    return [*found, *(word.value for word in words if word.arg == name)]


def member(base: Thing, name: str, depth: int) -> Thing:
    """What a module, a class or an object of it calls by the name."""
    file, home = base.file, base.node
    if file is None or depth <= 0:
        return UNKNOWN
    if isinstance(home, ast.Module):
        file.scopes.unread.read_name(file.scopes, name)
        found = file.scopes.module.names.get(name, [])
        return only(of_binding(file, item, depth - 1) for item in found if not is_empty(item)) if found else UNKNOWN
    if not isinstance(home, ast.ClassDef):
        return UNKNOWN
    function = own_member(base, name)
    if function is not None:
        cached = {dotted(each).split(".")[-1] for each in function.decorator_list} & {"property", "cached_property"}
        return returned(file, function, depth) if cached else defined(file, function)
    said = [each.annotation for each in home.body if isinstance(each, ast.AnnAssign) and dotted(each.target) == name]
    declared = only(object_of(file, each, depth - 1) for each in said)
    if declared != UNKNOWN:
        return declared
    things = list(fields(file, home, name, depth))
    if things:
        return only(things)
    for each in home.bases:
        parent = what_is(file, each, depth - 1)
        if parent.trail:
            return Thing(f"{parent.trail}{'()' * base.made}.{name}")
        above = member(Thing(place=parent.place, node=parent.node, made=base.made), name, depth - 1)
        if above != UNKNOWN:
            return above
    return UNKNOWN


def own_member(given: Thing, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The method of that name which the class itself defines."""
    body = given.node.body if isinstance(given.node, ast.ClassDef) else ()
    found = next((each for each in body if isinstance(each, FUNCTION) and each.name == name), None)
    if found is not None and given.file is not None:
        given.file.scopes.unread.read_nodes(given.file.scopes, [found])
    return found


def fields(file: File, home: ast.ClassDef, name: str, depth: int) -> Iterator[Thing]:
    """What the class is given by that name: `self.repo = Repo()`, `repo = Repo()` in its body."""
    for target, value in file.scopes.written(name):
        if dotted(target) in (f"self.{name}", f"cls.{name}") and file.home(target) is home and not is_none(value):
            said = getattr(file.parent(target), "annotation", None)
            given = object_of(file, said, depth - 1) if said is not None else UNKNOWN
            yield given if given != UNKNOWN else what_is(file, value, depth - 1)
    for each in home.body:
        if isinstance(each, ast.Assign) and name in map(dotted, each.targets) and not is_none(each.value):
            yield what_is(file, each.value, depth - 1)


# -- a call ------------------------------------------------------------------------------------------------


def of_call(file: File, node: ast.Call, depth: int) -> Thing:
    function = what_is(file, node.func, depth - 1)
    given = [*node.args, *(each.value for each in node.keywords)]
    if function.trail in SAME or function.trail.endswith(".enter_context"):
        return what_is(file, node.args[0], depth - 1) if node.args else UNKNOWN
    if function.trail and any(is_asynchronous(file, each) for each in given):
        return UNKNOWN
    return called(function, depth)


def is_asynchronous(file: File, node: ast.expr) -> bool:
    """Whether something asynchronous is handed over, or a database in memory, which has nobody to wait for."""
    if isinstance(node, ast.Constant):
        return node.value == ":memory:"
    name = file.qualified(node).lower()
    return any(word in name for word in UNLIKE)


def called(function: Thing, depth: int, waited: bool = False) -> Thing:
    """What a call of it gives; of a coroutine, once it is `waited` for."""
    if function is ITSELF:
        return ITSELF
    if function.trail:
        return Thing(f"{function.trail}()")
    if isinstance(function.node, ast.ClassDef):
        return UNKNOWN if function.made else made_of(function)
    if function.file is None or not isinstance(function.node, FUNCTION):
        return UNKNOWN
    if isinstance(function.node, ast.AsyncFunctionDef) and not waited:
        return UNKNOWN
    return returned(function.file, function.node, depth)


def returned(file: File, home: ast.FunctionDef | ast.AsyncFunctionDef, depth: int) -> Thing:
    """What the function returns or yields, as its annotation or its values say."""
    if depth <= 0 or not is_plain(home):
        return UNKNOWN
    if home.returns is not None:
        said = object_of(file, home.returns, depth - 1)
        if said != UNKNOWN:
            return said
    ends = [each for each in file.run_by(home) if isinstance(each, (ast.Return, ast.Yield))]
    yields = [each for each in ends if isinstance(each, ast.Yield)]
    values = [each.value for each in yields or ends if each.value is not None and not is_none(each.value)]
    return only(what_is(file, value, depth - 1) for value in values)


def is_plain(home: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether no decorator but a known one stands over it, which may make something else of it."""
    calls = [each.func if isinstance(each, ast.Call) else each for each in home.decorator_list]
    return all(dotted(each).split(".")[-1] in PLAIN_DECORATORS for each in calls)


def of_awaited(file: File, node: ast.expr, depth: int) -> Thing:
    """What an await of a call gives: of a coroutine of the tree, or of a function that a thread runs."""
    if not isinstance(node, ast.Call):
        return UNKNOWN
    function = what_is(file, node.func, depth - 1)
    if function.trail in POOLS:
        return Thing(f"{function.trail}()")
    if function.trail in THREADS and node.args:
        return called(what_is(file, node.args[0], depth - 1), depth)
    return called(function, depth, waited=True) if isinstance(function.node, ast.AsyncFunctionDef) else UNKNOWN


def function_called(file: File, call: ast.Call) -> tuple[File, ast.FunctionDef] | None:
    """The plain function, method or constructor of the tree that the call runs, with its file."""
    kind, text = kind_elsewhere(file, call.func)
    if kind == "async def" or (kind == "class" and "def __init__" not in text):
        return None
    found = what_is(file, call.func)
    home = own_member(found, "__init__") if isinstance(found.node, ast.ClassDef) and not found.made else found.node
    return (found.file, home) if found.file is not None and isinstance(home, ast.FunctionDef) else None


def kind_elsewhere(file: File, func: ast.expr) -> tuple[str, str]:
    """How another file of the tree defines the imported name: "def", "async def", "class", or "" where it does not.

    With its text, which is searched and not parsed: most calls end here.
    """
    path, rest = place_elsewhere(file, file.qualified(func))
    if not path or len(rest) != 1:
        return "", ""
    return definitions(path).get(rest[0], ""), text_of_other(path)


# -- other files ---------------------------------------------------------------------------------------------


def place_elsewhere(file: File, name: str) -> tuple[str, tuple[str, ...]]:
    """See `place_of`, of a name as the file imports it."""
    if name not in file.places:
        folder = folder_of(file.name) if name else ""
        file.places[name] = place_of(folder, name) if folder else ("", ())
    return file.places[name]


def of_import(file: File, name: str, depth: int) -> Thing:
    """What an import means: a name of another file of the tree, or one of a library."""
    path, rest = place_elsewhere(file, name)
    other = read_other(path) if path else None
    if other is None:
        return UNKNOWN if name.startswith(".") else Thing(name)
    found = defined(other, other.tree)
    for each in rest:
        found = Thing(f"{found.trail}.{each}") if found.trail else member(found, each, depth - 1)
    return found
