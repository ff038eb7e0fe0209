"""Where an `await` may stand, and how a call is put behind one.

    page = requests.get(url)              page = await asyncio.to_thread(requests.get, url)

An await lets other coroutines run, and a cancellation arrive. Where the program relies on neither, none is put in.
"""

from __future__ import annotations

import ast
from pathlib import Path

from hangdebug.evidence import light as re
from hangdebug.repair.code.bindings import COMPREHENSIONS, FUNCTIONS, walk
from hangdebug.repair.code.file import File, dotted
from hangdebug.repair.code.layout import project_of
from hangdebug.repair.code.while_awaiting import LOCKISH, why_freed, why_not_meanwhile
from hangdebug.repair.model import Edit

CALM = re.compile(r"[ \t]*\(")  # between a function and its arguments
LOCKS = frozenset(f"threading.{name}" for name in ("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"))
CANCELLED = frozenset(
    (
        "asyncio.CancelledError",
        "asyncio.exceptions.CancelledError",
        "builtins.BaseException",
        "builtins.GeneratorExit",
        "concurrent.futures.CancelledError",
        "anyio.get_cancelled_exc_class",
    )
)
MAKES_LOCKS = re.compile(r"\b(?:Lock|RLock|Condition|Semaphore|BoundedSemaphore)\b")
OTHER_LOOPS = re.compile(r"(^|[._])(trio|curio)([._]|$)")
TEMPLATES = tuple(getattr(ast, name) for name in ("JoinedStr", "TemplateStr") if hasattr(ast, name))
NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
BLOCKS_FOR_EVER = "while it awaits, the next coroutine that wants {} would block the loop for ever"
TAKEN = "the name `{}` means something else here, or nothing yet"
ANY_LOOP = (
    "the file runs on AnyIO, perhaps over trio, which has nothing of the kind: hand a function that waits for it to "
    "anyio.to_thread.run_sync()"
)
SHIELD = (
    "it stands in a `finally`: once a client of Starlette or AnyIO has left, an await there is cut short; shield it, "
    "`with anyio.CancelScope(shield=True): await ...` (under asyncio alone a plain await there ends by itself)"
)
OLD_THREAD = "asyncio.get_running_loop().run_in_executor"  # before Python 3.9
HANDED = (ast.Attribute, ast.Call, ast.Subscript)


def why_no_await(file: File, node: ast.AST, last: bool = False, at: tuple[int, int] | None = None) -> str:
    """Why no `await` can be put at the node, "" where one can. With `last` it may end a `finally`.

    `at` is where the await would start and end, if it is not the node itself.
    """
    frame, comprehensions = file.frame(node), 0
    inner: ast.AST = node
    for up in file.above(node):
        if up is frame:
            break
        ends = last and isinstance(up, ast.Try) and inner in up.finalbody[-1:]
        reason = "" if ends else why_barred(file, up, inner)
        comprehensions += isinstance(up, COMPREHENSIONS) and not evaluated_first(file, up, inner, node)
        if reason or comprehensions > 1:
            return reason or "an await in a nested comprehension needs Python 3.11"
        inner = up
    taken = acquire_line(file, frame, node)
    if taken:
        return f"line {taken} has taken a lock by hand: {BLOCKS_FOR_EVER.format('it')}"
    between = why_not_meanwhile(file, frame, node, at or (file.start(node), file.end(node)))
    between = between or ("" if last else why_freed(file, frame, node))
    if between:
        return between
    module = loop_module(file)
    return TAKEN.format(module) if import_needed(file, node, module) is None else ""


def other_loop(file: File) -> bool:
    """Whether the file imports trio or curio, whose loops cannot await what is asyncio's, or is a part of one."""
    if {"trio", "curio"}.intersection(Path(file.name).parts[:-1]):
        return True
    words = "trio" in file.text or "curio" in file.text
    return words and any(OTHER_LOOPS.search(name) for name in imported(file))


def any_loop(file: File) -> bool:
    """Whether the file runs on whatever loop AnyIO has, which may be trio's: it imports anyio and not asyncio."""
    return "anyio" in file.text and imports_module(file, "anyio") and not imports_module(file, "asyncio")


def loop_module(file: File) -> str:
    """The module whose `sleep` and `to_thread` suit the file."""
    return "anyio" if any_loop(file) else "asyncio"


def never_runs(file: File, node: ast.AST) -> bool:
    """Whether the node is behind an `if False`, in the `else` of an `if True`, or in a thread that has its own loop."""
    home, inner = file.home(node), node
    if home is not None and any(file.qualified(base) == "threading.Thread" for base in home.bases):
        return True
    for up in file.above(node):
        constant = up.test if isinstance(up, ast.If) and isinstance(up.test, ast.Constant) else None
        if isinstance(up, ast.If) and constant and inner in (up.orelse if constant.value else up.body):
            return True
        inner = up
    return False


def why_barred(file: File, up: ast.AST, inner: ast.AST) -> str:
    if isinstance(up, TEMPLATES):
        return "it stands inside of an f-string; give it a name of its own first"
    if isinstance(up, ast.GeneratorExp) and inner is not up.generators[0]:
        return "an await would make the generator expression around it asynchronous"
    if isinstance(up, ast.With) and inner in up.body:
        for item in up.items:
            if holds_lock(file, item.context_expr):
                held = ast.unparse(item.context_expr)
                return f"the `with` around it holds the lock `{held}`: {BLOCKS_FOR_EVER.format('the lock')}"
    if isinstance(up, ast.Try) and inner in up.finalbody:
        return SHIELD
    if isinstance(up, ast.ExceptHandler) and inner is not up.type and catches_cancel(file, up):
        return "the `except` around it may have caught a cancellation, after which an await may be cut short"
    return ""


def evaluated_first(file: File, comprehension: ast.AST, inner: ast.AST, node: ast.AST) -> bool:
    """Whether the node stands in the iterable that is evaluated before the comprehension is entered."""
    start = comprehension.generators[0] if isinstance(comprehension, COMPREHENSIONS) else None
    return start is not None and inner is start and start.iter in (node, *file.above(node))


def acquire_line(file: File, frame: ast.AST, node: ast.AST) -> int:
    """The line of the same function that takes a lock of threads which may be held at the node, 0 for none."""
    line = file.line(node)
    calls = [
        (each.func.attr, ast.unparse(each.func.value), each)
        for each in walk(frame)
        if isinstance(each, ast.Call)
        and isinstance(each.func, ast.Attribute)
        and each.func.attr in ("acquire", "release")
    ]
    for verb, lock, call in calls:
        if verb == "acquire" and call is not node and call.lineno <= line and not awaited(file, call):
            given = [other.lineno for verb, same, other in calls if verb == "release" and same == lock]
            if not given or max(given) >= line:
                return call.lineno
    return 0


def awaited(file: File, node: ast.AST) -> bool:
    return isinstance(file.parent(node), ast.Await)


def takes_lock(file: File, name: str) -> bool:
    """Whether a function or class of the file, by its name, enters or acquires a lock: a context manager around one."""
    file.scopes.unread.read_word(file.scopes, name)
    own = [each for each in file.scopes.known_opened if isinstance(each, NAMED) and each.name == name]
    parts = [part for each in own for part in walk(each)]
    held = [item.context_expr for part in parts if isinstance(part, ast.With) for item in part.items]
    return any(isinstance(part, ast.Attribute) and part.attr == "acquire" for part in parts) or any(
        holds_lock(file, each) for each in held if not isinstance(each, ast.Call)
    )


def holds_lock(file: File, node: ast.expr) -> bool:
    if isinstance(node, ast.Subscript):
        written = [each for each in file.nodes() if isinstance(each, (ast.Assign, ast.AnnAssign)) and each.value]
        made = [
            each.value
            for each in written
            for target in (each.targets if isinstance(each, ast.Assign) else [each.target])
            if ast.unparse(target) == ast.unparse(node.value)
        ]
        return holds_lock(file, node.value) or any(MAKES_LOCKS.search(ast.unparse(each)) for each in made if each)
    if isinstance(node, ast.Call):
        name = dotted(node.func).split(".")[-1]
        return bool(LOCKISH.search(name)) or takes_lock(file, name)
    maker = file.maker(node)
    return maker in LOCKS or (not maker and bool(LOCKISH.search(dotted(node).split(".")[-1])))


def catches_cancel(file: File, handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        kind is None or file.qualified(kind) in CANCELLED or dotted(kind).endswith("CancelledError") for kind in kinds
    )


def imports_module(file: File, module: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for name in imported(file))


def imported(file: File) -> list[str]:
    """The dotted names of all that the file imports, wherever it does."""
    file.scopes.unread.read_word(file.scopes, "import ")
    scopes = file.scopes.known_opened.values()
    return [item.qualified for scope in scopes for items in scope.names.values() for item in items if item.qualified]


def import_needed(file: File, node: ast.AST, module: str) -> tuple[str, ...] | None:
    """The import that the name of the module needs at the node: none, one to add, None where it is taken."""
    scope, found = file.lookup(node, module)
    if scope is None:
        return (module,)
    if not all(item.qualified == module for item in found):
        return None
    at_import = not isinstance(file.frame(node), FUNCTIONS)
    if at_import and not any(file.line(item.node) < file.line(node) for item in found):
        return None
    if scope is file.scopes.module:
        return () if any(item.node in file.tree.body for item in found) else (module,)
    body = getattr(scope.node, "body", ())
    ready = any(item.node in body and file.line(item.node) < file.line(node) for item in found)
    return () if ready and len(found) == 1 else None


def thread_head(file: File) -> str:
    """What is called with a function to run it in a thread, as far as the file's loop and Python know it."""
    if any_loop(file):
        return "anyio.to_thread.run_sync("
    return "asyncio.to_thread(" if project_of(file.name).has(9) else f"{OLD_THREAD}(None, "


def thread_shown(file: File) -> str:
    """The same in short, for a message."""
    head = thread_head(file)
    return "loop.run_in_executor(None, " if head.startswith(OLD_THREAD) else head


def call_in_thread(file: File, call: ast.Call) -> tuple[Edit, ...] | None:
    """`f(x)` becomes `await asyncio.to_thread(f, x)`: the edits, None where it is laid out too oddly for that."""
    head, partial = thread_head(file), "functools.partial(" * needs_partial(file, call)
    start, name_end, end = file.start(call), file.end(call.func), file.end(call)
    opening = CALM.match(file.text, name_end)
    if not opening or file.start(call.func) != start:
        return None
    inside = file.text[opening.end() : end - 1]
    before, after = parenthesize(file, call)
    if not call.args and not call.keywords:
        tail = Edit(name_end, opening.end(), "") if not inside.strip() else None
        return (*before, Edit(start, start, f"await {head}"), tail, *after) if tail else None
    head, gap = f"{head}{partial}", ", "
    if inside[:1] in ("\n", "\r"):  # one argument a line: the function becomes the first of them
        margin = re.match(r"\s*[\r\n]+([ \t]*)", inside)
        head, gap = f"{head.rstrip()}{file.newline}{margin[1] if margin else ''}", ","
    closing = (Edit(end, end, ")"),) if partial else ()
    return (*before, Edit(start, start, f"await {head}"), Edit(name_end, opening.end(), gap), *closing, *after)


def needs_partial(file: File, call: ast.Call) -> bool:
    """Whether the function that runs it takes no keywords for it."""
    return bool(call.keywords) and not thread_head(file).startswith("asyncio.to_thread")


def imports_for_thread(file: File, call: ast.Call) -> tuple[str, ...]:
    modules = (loop_module(file), *("functools",) * needs_partial(file, call))
    return tuple(needed for module in modules for needed in import_needed(file, call, module) or ())


def parenthesize(file: File, node: ast.expr) -> tuple[tuple[Edit, ...], tuple[Edit, ...]]:
    """Parentheses around what becomes an `await`, where an attribute, a call or an index follows it."""
    parent = file.parent(node)
    follows = isinstance(parent, HANDED) and node is getattr(parent, "value", getattr(parent, "func", None))
    start, end = file.start(node), file.end(node)
    return ((Edit(start, start, "("),), (Edit(end, end, ")"),)) if follows else ((), ())
