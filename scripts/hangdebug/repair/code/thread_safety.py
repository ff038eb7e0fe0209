"""Whether a function does the same in a thread: it runs there beside itself, and beside the event loop's own code.

    page = requests.get(url)              its own: nobody else has it
    item = Item(name=page.text)           data: it may be read, not told to do anything
    app.state.queue.put_nowait(item)      unknown: it may belong to the loop's thread, and wakes nobody from another

What an expression gives is FREE to use, DATA that may only be read, or UNKNOWN. What is UNKNOWN and called, changed,
searched or looped over is a reason against a thread.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Callable, Optional

from hangdebug.evidence import light as re
from hangdebug.repair.code.bindings import COMPREHENSIONS, Binding, defaults_of, parameters, walk
from hangdebug.repair.code.file import File, dotted, last_name
from hangdebug.repair.code.receivers import function_called
from hangdebug.repair.code.while_awaiting import CHANGES, is_shared

FREE, DATA, UNKNOWN = 2, 1, 0
LOOPED = frozenset("asyncio anyio contextvars threading trio nest_asyncio uvloop multiprocessing concurrent".split())
PACKAGES = frozenset(
    "requests httpx fastapi starlette pydantic builtins bcrypt sqlalchemy sqlmodel base64 collections csv datetime "
    "decimal email functools gzip hashlib hmac html http io itertools json logging math os pathlib random re secrets "
    "shutil socket sqlite3 statistics string subprocess tempfile time typing urllib uuid zipfile".split()
)
PROCESS = re.compile(  # of these packages, what changes files, or what the whole process shares
    r"builtins\.(exec|eval|compile|input|breakpoint|setattr|delattr|getattr|globals|vars|__import__)$"
    r"|os\.(?!path\.|getenv|environ\.(get|copy|items|keys)|listdir|stat|scandir|walk|getcwd|getpid|urandom|system|access"
    r"|cpu_count|fspath)"
    r"|shutil\.(?!which|disk_usage)|logging\.(?!getLogger$|debug$|info$|warning$|error$|exception$|critical$)"
    r"|decimal\.(get|set|local)context|random\.seed|socket\.setdefault|time\.tzset|functools\.(lru_cache|cache)"
    r"|(fastapi|starlette)\.(?!.*\b([A-Z]\w*|jsonable_encoder)$)|.*\.(asyncio|concurrency|background)\.|urllib\.request\.install"
)
WRITES = frozenset("write_text write_bytes unlink rename rmdir touch mkdir symlink_to hardlink_to chmod".split())
READS_DATA = frozenset(  # methods that change nothing, whatever they belong to: of models, of strings, of dates
    "model_dump model_dump_json model_copy dict json copy keys values items strip lstrip rstrip lower upper title "
    "split encode decode isoformat format startswith endswith join hex timestamp date strftime splitlines "
    "url_for".split()
)
MUTATES = frozenset(
    "append extend insert add update setdefault pop popitem popleft appendleft remove discard clear sort".split()
)
LOOKS = frozenset(
    "len list tuple set dict sorted sum min max any all enumerate zip map filter iter next reversed".split()
)
COLUMN = frozenset(
    "in_ not_in notin_ like ilike desc asc is_ is_not isnot between contains label startswith endswith".split()
)
OPENS = ("open", "ZipFile", "TarFile")
SESSIONS = (
    "sqlalchemy.orm.Session",
    "sqlalchemy.orm.session.Session",
    "sqlmodel.Session",
    "sqlmodel.orm.session.Session",
)
TEMPLATES = ("fastapi.templating.Jinja2Templates", "starlette.templating.Jinja2Templates")
PLAIN = (
    "str",
    "int",
    "float",
    "bool",
    "bytes",
    "list",
    "dict",
    "set",
    "tuple",
    "UploadFile",
    "BackgroundTasks",
    "UUID",
    "date",
    "datetime",
    "Path",
    "List",
    "Dict",
    "Decimal",
)
LITERALS = (ast.Constant, ast.JoinedStr, ast.BinOp, ast.Compare, ast.UnaryOp, ast.Lambda)
DISPLAYS = (ast.List, ast.Tuple, ast.Set, ast.Dict, *COMPREHENSIONS)
CONSTRUCTORS = frozenset("__init__ __new__ __post_init__ model_post_init __call__ __del__".split())


def why_not_in_thread(file: File, node: ast.AsyncFunctionDef) -> str:
    """Why the function may not run in a thread, with the line; "" where it may."""
    for line in node.body:
        for each in walk(line):
            words = why_not(file, each, node)
            if words:
                return f"line {file.line(each)} {words}"
    return ""


def why_not(file: File, each: ast.AST, node: ast.AsyncFunctionDef) -> str:
    if isinstance(each, ast.AsyncFunctionDef):
        return f"defines the coroutine {each.name}() in it"
    if isinstance(each, (ast.Global, ast.Nonlocal)):
        return f"binds `{each.names[0]}`, which others share"
    if isinstance(each, (ast.Attribute, ast.Subscript)) and not isinstance(each.ctx, ast.Load):
        alone = kind_of_value(file, each.value, node) == FREE and not belongs_to_parameter(each, node)
        return "" if alone else f"writes to `{file.short(each)}`, which others may share"
    if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load):
        return why_not_read(file, each, node)
    if isinstance(each, ast.Call) and not is_harmless(file, each, node):
        return (
            f"calls `{file.short(each.func)}`, which may belong to the event loop's thread, or change what others share"
        )
    return ""


def why_not_read(file: File, each: ast.Name, node: ast.AsyncFunctionDef) -> str:
    """Why a name that is read is a reason: what it stands for lives outside of the function, and may change there."""
    name = file.qualified(each)
    if name.split(".")[0] in LOOPED:
        return f"uses `{name}`, which is about the event loop or about threads"
    scope, found = file.lookup(each, each.id)
    inside = scope is not None and node in (scope.node, *file.above(scope.node))
    if inside or name.split(".")[0] in PACKAGES or (found and all(is_constant(file, each, item) for item in found)):
        return ""
    outer: ast.expr = each
    up = file.parent(each)
    while isinstance(up, ast.Attribute):
        outer, up = up, file.parent(up)
    called = isinstance(up, ast.Call) and up.func is outer  # `calm` looks at that
    task = isinstance(up, ast.Call) and getattr(up.func, "attr", "") == "add_task" and up.args[:1] == [outer]
    named = dotted(outer).split(".")[-1][:1].isupper()  # a class or a constant
    still = named or (isinstance(outer, ast.Attribute) and not looks_into(file, outer, up))
    if called or task or still:
        return ""
    return f"reads `{file.short(outer)}`, which may change meanwhile on the event loop's thread"


def looks_into(file: File, node: ast.expr, up: ast.AST) -> bool:
    """Whether more than one step is taken in what the expression gives: others may change it in between."""
    if isinstance(up, ast.Call):
        return file.qualified(up.func).split(".")[-1] in LOOKS
    searched = isinstance(up, ast.Compare) and node is not up.left and isinstance(up.ops[-1], (ast.In, ast.NotIn))
    held = isinstance(up, ast.Subscript) and up.value is node
    return searched or held or isinstance(up, ast.Starred) or getattr(up, "iter", None) is node


def is_constant(file: File, each: ast.Name, item: Binding) -> bool:
    """Whether what is bound never changes: a class, a literal, a collection that the file only reads."""
    value = item.value
    if isinstance(item.node, ast.ClassDef):
        return True
    if isinstance(value, DISPLAYS):
        return not any(is_changed(file, use) for use in file.uses(each))
    if isinstance(value, ast.Call):
        made = file.qualified(value.func)
        return made in TEMPLATES or made.split(".")[0] in (
            "os",
            "re",
            "pathlib",
            "logging",
            "builtins",
            "datetime",
            "uuid",
        )
    root = file.qualified(value.value) if isinstance(value, (ast.Subscript, ast.Attribute)) else ""
    return isinstance(value, LITERALS) or root.startswith("os")


def is_changed(file: File, use: ast.expr) -> bool:
    up = file.parent(use)
    if isinstance(up, ast.Attribute):
        return up.attr in MUTATES
    return (isinstance(up, ast.Subscript) and not isinstance(up.ctx, ast.Load)) or (
        isinstance(up, (ast.Call, ast.AugAssign))
        and file.qualified(getattr(up, "func", up)) not in {f"builtins.{name}" for name in LOOKS}
    )


def is_harmless(file: File, call: ast.Call, node: ast.AsyncFunctionDef) -> bool:
    """Whether the call reads, computes or builds, and nothing else."""
    func, name = call.func, file.qualified(call.func)
    if (dotted(func) or getattr(func, "attr", "")).split(".")[-1] in OPENS and not only_reads(call, first=not name):
        return False
    if name:
        column = name.split(".")[-1] in COLUMN and any(part[:1].isupper() for part in name.split("."))
        built = column or name.split(".")[-1][:1].isupper()
        return not PROCESS.match(name) if name.split(".")[0] in PACKAGES else built
    if isinstance(func, ast.Name):
        bound = [item.node for item in file.lookup(func, func.id)[1]]
        return bool(bound) and all(
            is_plain_class(each) or (isinstance(each, ast.FunctionDef) and node in file.above(each)) for each in bound
        )
    if not isinstance(func, ast.Attribute) or func.attr in WRITES:
        return False
    if isinstance(func.value, ast.Name) and file.maker(func.value) in ("logging.getLogger", *TEMPLATES):
        return True
    given = kind_of_value(file, func.value, node)
    return given == FREE or (given == DATA and func.attr in READS_DATA)


def only_reads(call: ast.Call, first: bool) -> bool:
    """Whether a file is opened for reading. The mode is the `first` argument of a path's method, else the second."""
    given = [*(each.value for each in call.keywords if each.arg == "mode"), *call.args[0 if first else 1 :]]
    return not given or (isinstance(given[0], ast.Constant) and set(str(given[0].value)) <= set("rbt"))


def is_plain_class(bound: ast.AST) -> bool:
    """Whether it is a class whose making runs nothing of its own."""
    return isinstance(bound, ast.ClassDef) and not CONSTRUCTORS & {getattr(each, "name", "") for each in bound.body}


def kind_of_value(
    file: File, each: ast.expr | None, node: ast.AsyncFunctionDef, seen: tuple[ast.expr, ...] = ()
) -> int:
    """What may be done with the value of an expression of the function."""
    if each is None or each in seen or len(seen) > 20:
        return DATA
    path = (*seen, each)

    def again(part: ast.expr | None) -> int:
        return kind_of_value(file, part, node, path)

    if isinstance(each, (*LITERALS, *DISPLAYS, ast.BoolOp)):
        parts = [*getattr(each, "elts", ()), *getattr(each, "values", ())] * (not isinstance(each, LITERALS))
        parts += filter(None, [getattr(each, "elt", None), getattr(each, "value", None)] * isinstance(each, DISPLAYS))
        return min(map(again, parts), default=FREE)
    if isinstance(each, ast.IfExp):
        return min(again(each.body), again(each.orelse))
    if isinstance(each, ast.Call):
        built = file.qualified(each.func).split(".")[0] not in PACKAGES and not isinstance(each.func, ast.Attribute)
        return (DATA if built else FREE) if is_harmless(file, each, node) else UNKNOWN
    if isinstance(each, ast.Attribute):
        hidden = each.attr in ("app", "state", "scope", "session") and again(each.value) < FREE
        return UNKNOWN if hidden else again(each.value)
    if isinstance(each, (ast.Subscript, ast.NamedExpr, ast.Starred)):
        return again(each.value)
    if not isinstance(each, ast.Name):
        return UNKNOWN
    scope, found = file.lookup(each, each.id)
    if scope is None or node not in (scope.node, *file.above(scope.node)):
        return DATA if found and all(is_constant(file, each, item) for item in found) else UNKNOWN
    return min((kind_of_binding(file, item, node, again) for item in found), default=UNKNOWN)


def kind_of_binding(
    file: File, item: Binding, node: ast.AsyncFunctionDef, again: Callable[[ast.expr | None], int]
) -> int:
    """The same of what one place gives to a name."""
    if isinstance(item.node, ast.arg):
        return kind_of_parameter(file, item.node, node)
    if item.value is not None:
        return again(item.value)
    up = item.node
    while up is not node and not isinstance(up, (ast.stmt, ast.comprehension)):
        up = file.parent(up)
    given = getattr(up, "iter", getattr(up, "value", None))
    if isinstance(up, ast.With):
        return min(again(each.context_expr) for each in up.items)
    return again(given) if isinstance(given, ast.expr) else DATA


def kind_of_parameter(file: File, arg: ast.arg, node: ast.AsyncFunctionDef) -> int:
    if arg not in parameters(node.args):
        return DATA
    if is_session(file, arg):
        return FREE
    defaults = defaults_of(node.args)
    given = [part for part in (arg.annotation, defaults.get(arg)) if part is not None]
    depends = any(
        isinstance(part, ast.Call) and dotted(part.func).split(".")[-1] in ("Depends", "Security")
        for each in given
        for part in walk(each)
    )
    plain = arg.annotation is not None and {dotted(part).split(".")[-1] for part in walk(arg.annotation)} & set(PLAIN)
    return FREE if plain and not depends else DATA


def is_session(file: File, arg: ast.arg) -> bool:
    """Whether it is a database session that FastAPI passes in."""
    return arg.annotation is not None and any(file.qualified(part) in SESSIONS for part in walk(arg.annotation))


def belongs_to_parameter(each: ast.Attribute | ast.Subscript, node: ast.AsyncFunctionDef) -> bool:
    """Whether what is written to belongs to a parameter: others may hold it too."""
    names = {arg.arg for arg in parameters(node.args)}
    return any(isinstance(part, ast.Name) and part.id in names for part in walk(each.value))


# -- what belongs to the event loop --------------------------------------------------------------------

LOOP_OBJECTS = ("asyncio", "anyio", "trio", "uvloop")
ON_LOOP = frozenset("call_soon call_later call_at create_task create_future run_until_complete start_soon".split())
LOOP_NAMES = re.compile(r"_?(event_|io_?)?loop$|\w*(get|create|new|ensure)_(\w+_)?loop$")
AT_ONCE = "which several threads would do at once"
MOST_CALLEES = 50
Own = Optional[bool]  # of a function in another file: whether its `self` is its caller's own. None: in the same file


def why_on_loop(file: File, home: ast.FunctionDef, name: str, seen: set[ast.AST], own: Own = None) -> str:
    """What the function, or what it calls in the tree, has against a thread; "" where nothing is known.

    `name` is that of its file, `seen` holds the functions that were looked at, this one included.
    """
    for each in walk(home):
        if isinstance(each, (ast.Yield, ast.YieldFrom)) and file.frame(each) is home and len(seen) == 1:
            return f"{home.name}() is a generator, whose body runs where it is looped over, not in the thread"
        reason = why_against(file, home, each, own)
        if reason:
            return f"{home.name}() in line {file.line(each)} of {name} {reason}"
        for other, callee, its_own in functions_called(file, each, own) if isinstance(each, ast.Call) else ():
            if callee not in seen and len(seen) < MOST_CALLEES:
                seen.add(callee)
                reason = why_on_loop(other, callee, name if other is file else Path(other.name).name, seen, its_own)
                if reason:
                    return reason
    return ""


def functions_called(file: File, call: ast.Call, own: Own) -> list[tuple[File, ast.FunctionDef, Own]]:
    """The plain function or method that the call means, with its file."""
    receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
    inside = receiver is not None and dotted(receiver) in ("self", "cls")
    owner = file.home(call) if inside else None
    found: list[ast.AST] = [each for each in owner.body if named(each) == last_name(call.func)] if owner else []
    if isinstance(call.func, ast.Name):
        found = [item.node for item in file.lookup(call.func, call.func.id)[1]]
    file.scopes.unread.read_nodes(file.scopes, found)
    here = [(file, each, own) for each in found if isinstance(each, ast.FunctionDef)]
    elsewhere = function_called(file, call) if not here else None
    if elsewhere is None:
        return here
    elsewhere[0].scopes.unread.read_nodes(elsewhere[0].scopes, [elsewhere[1]])
    alone = receiver is not None and not is_shared(file, receiver, file.frame(call))
    return [(*elsewhere, bool(own) if inside else alone or elsewhere[1].name == "__init__")]


def named(node: ast.AST) -> str:
    return getattr(node, "name", "")


def why_against(file: File, home: ast.FunctionDef, each: ast.AST, own: Own) -> str:
    """What one node of the function has against a thread, in words."""
    if isinstance(each, ast.Global):
        bound = next((name for name in each.names if binds(home, name)), "")
        return f"changes `{bound}`, {AT_ONCE}" if bound else ""
    if isinstance(each, ast.Nonlocal):
        around = file.lookup(home, each.names[0])[0]
        of_coroutine = around is not None and isinstance(around.node, ast.AsyncFunctionDef)
        return "" if of_coroutine else f"changes `{each.names[0]}`, {AT_ONCE}"
    if isinstance(each, ast.Call) and last_name(each.func) in ON_LOOP:
        return f"calls `{file.short(each.func)}`, which belongs to the event loop's thread"
    held = what_it_changes(each)
    if held is not None and home.name != "__init__" and not is_its_own(file, held, own):
        return f"changes `{file.short(held)}`, {AT_ONCE}"
    if isinstance(each, (ast.Name, ast.Attribute)) and dotted(each) and isinstance(each.ctx, ast.Load):
        return why_against_use(file, home, each)
    return ""


def binds(home: ast.FunctionDef, name: str) -> bool:
    return any(
        isinstance(each, ast.Name) and each.id == name and not isinstance(each.ctx, ast.Load) for each in walk(home)
    )


def what_it_changes(node: ast.AST) -> ast.expr | None:
    """What the node writes to, or changes by a method such as `append`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
        return node.func.value
    stored = isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load)
    return node if stored and isinstance(node, ast.expr) else None


def is_its_own(file: File, held: ast.expr, own: Own) -> bool:
    """Whether it belongs to a variable that the function around it makes itself.

    What a function of another file is given is mostly there to be filled, but for `self`.
    """
    root = next((part for part in walk(held) if isinstance(part, ast.Name)), None)
    if root is None:
        return True
    scope, bound = file.lookup(root, root.id)
    args = [item.node for item in bound if isinstance(item.node, ast.arg)]
    given = any(getattr(file.parent(arg), "kwarg", None) is not arg for arg in args)  # `**options` are a new dict
    filled = own or (own is not None and root.id not in ("self", "cls"))
    return scope is file.scopes.opened_by(file.frame(held)) and (filled or not given)


def why_against_use(file: File, home: ast.FunctionDef, each: ast.Name | ast.Attribute) -> str:
    made, known, said = file.maker(each), file.qualified(each), file.short(each)
    if (
        known.split(".")[0] in LOOP_OBJECTS
        or made.split(".")[0] in ("asyncio", "anyio")
        or (isinstance(each, ast.Attribute) and LOOP_NAMES.match(each.attr))
    ):
        return f"uses `{said}`, which belongs to the event loop's thread"
    if known.split(".")[0] == "signal":
        return f"uses `{said}`, which only the main thread may"
    inside = file.lookup(each, dotted(each).split(".")[0])[0] is file.scopes.opened_by(home)
    if made == "sqlite3.connect" and (not inside or isinstance(each, ast.Attribute)):
        return f"uses `{said}`, and a sqlite3 connection belongs to the thread that made it"
    if made == "threading.local":
        return f"uses `{said}`, which has another value in each thread"
    if made == "contextvars.ContextVar" and file.method_call(each, "set", "reset"):
        return f"sets `{said}`, and a thread sets only its own copy"
    return ""
