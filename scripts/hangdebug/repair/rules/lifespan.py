"""One lifespan in place of `on_event` handlers.

    app = FastAPI()                       @asynccontextmanager
                                          async def lifespan(app: FastAPI):
    @app.on_event("startup")                  await connect()
    async def connect(): ...                  try:
                                                  yield
    @app.on_event("shutdown")                 finally:
    def close(): ...                              close()

                                          app = FastAPI(lifespan=lifespan)

`on_event` is deprecated. Start and stop stand apart, so that what one opens is easily left open by the other; a
lifespan holds both, and is the place to bound how long the stop may take (snippets/lifespan_executor.py).

What changes: nothing. The functions stay, and run in the same order, each on the event loop as before.

Refused aloud: an app that has a lifespan already (its handlers never run), handlers that FastAPI would then forget
(registered in another way, on a router that the app includes from another file, by what the app is handed to, or
by the callers of the function that returns it), handlers below a condition or behind a `return`, with another
decorator, with parameters, or of a name with two meanings.

Left alone: handlers of a router, of an app that another file makes, and of anything that is no FastAPI.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Union

from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.bindings import parameters, walk
from hangdebug.repair.code.file import File, dotted
from hangdebug.repair.code.findings import Found, Need
from hangdebug.repair.code.layout import other_files
from hangdebug.repair.model import Edit

ID, CODE = "lifespan", "HNG008"
NEEDS = (Need((("on_event",),)),)
APPS = ("fastapi.FastAPI", "fastapi.applications.FastAPI", "starlette.applications.Starlette")
OTHER_WAYS = ("on_event(", "add_event_handler(", "on_startup", "on_shutdown")
READ = (".lifespan_context", "router.startup(", "router.shutdown(")
FORGETS = "and FastAPI forgets those beside a lifespan"
SERVES = re.compile(
    r"(Middleware|[Cc]lient|[Tt]ransport|Config|Server|Mangum|(^|\.)(run|serve))$"
)  # it runs the app, or wraps it


Handler = Union[ast.FunctionDef, ast.AsyncFunctionDef]
HANDLER = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class App:
    """One application: the statement that makes it, the call in it, its name, its handlers with their decorators."""

    statement: ast.Assign | ast.AnnAssign
    call: ast.Call
    name: ast.Name
    handlers: tuple[tuple[Handler, ast.Call], ...]


def search(file: File) -> Iterator[Found]:
    for call in file.calls:
        statement = file.parent(call)
        if file.qualified(call.func) in APPS and isinstance(statement, (ast.Assign, ast.AnnAssign)):
            name = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
            handlers = tuple(handlers_of(file, name)) if isinstance(name, ast.Name) else ()
            if isinstance(name, ast.Name) and handlers:
                yield answer(file, App(statement, call, name, handlers))


def handlers_of(file: File, name: ast.Name) -> Iterator[tuple[Handler, ast.Call]]:
    """Each function that is decorated with the app's on_event, with that decorator, in order."""
    for call in filter(None, (file.method_call(use, "on_event") for use in file.uses(name))):
        function = file.parent(call)
        if isinstance(function, HANDLER) and call in function.decorator_list:
            yield function, call


def answer(file: File, app: App) -> Found:
    first = app.handlers[0][0]
    said = f"{len(app.handlers)} on_event handler{'s' * (len(app.handlers) > 1)} of `{app.name.id}`"
    reason = why_not(file, app)
    if reason:
        return Found(first, f"{said}, but {reason}", refused=True)
    name, start = free_name(file), start_with_comments(file, app.statement)
    edits = (
        *(drop_decorator(file, each) for _, each in app.handlers),
        add_argument(file, app.call, name),
        Edit(start, start, blank_line(file, app, start) + write_lifespan(file, app, name)),
    )
    message = f"{said}: on_event is deprecated; one lifespan calls them in the same order"
    return Found(first, message, edits, ("contextlib:asynccontextmanager",))


def why_not(file: File, app: App) -> str:
    reason = why_not_so_made(file, app) or why_given_away(file, app.name)
    if reason:
        return reason
    for function, decorator in app.handlers:
        reason = why_unfit(file, app.statement, function, decorator)
        if reason:
            return f"of {function.name}(): {reason}"
    if file.lookup(app.statement, "asynccontextmanager")[0] not in (None, file.scopes.module):
        return "the name `asynccontextmanager` means something else here"
    return why_elsewhere(file)


def why_not_so_made(file: File, app: App) -> str:
    """What the call that makes the app, or the text of the file, has against a lifespan."""
    said = {each.arg for each in app.call.keywords}
    if len(file.values(app.name)) != 1:
        return f"`{app.name.id}` is made in more than one place"
    if None in said:
        return "its `**` arguments may hold a lifespan already, beside which FastAPI never runs them: name them first"
    if isinstance(app.statement, ast.Assign) and len(app.statement.targets) > 1:
        return "the app has two names"
    if "lifespan" in said:
        return "the app has a lifespan already, beside which FastAPI never runs them: call them in it"
    if app.call.args:
        return "the app is made with arguments that have no name: name them first"
    if said & {"on_startup", "on_shutdown"} or len(app.handlers) != sum(map(file.text.count, OTHER_WAYS)):
        return f"this file registers others too, on another app or in another way, {FORGETS}"
    if any(each in file.text for each in READ):
        return (
            "this file uses the `lifespan_context` of a router too, or runs its handlers, which a lifespan replaces: "
            "look at that first"
        )
    return ""


def why_given_away(file: File, app: ast.Name) -> str:
    """Who else may register handlers: what the app is handed to, or whoever gets it from the function that makes it."""
    maker = getattr(file.frame(app), "name", "its function")
    for use in file.uses(app):
        up = file.parent(use)
        if isinstance(up, ast.Attribute):
            continue
        if isinstance(up, ast.Return):
            return f"{maker}() returns the app, and who calls it may register more, {FORGETS}: look there first"
        call = file.parent(up) if isinstance(up, ast.keyword) else up
        if not isinstance(call, ast.Call) or not keeps_app(file, call, use):
            to = f"{file.short(call.func)}()" if isinstance(call, ast.Call) else "another name"
            return f"line {use.lineno} gives the app to {to}, which may register more, {FORGETS}: look there first"
    return ""


def keeps_app(file: File, call: ast.Call, use: ast.expr) -> bool:
    """Whether the call serves or wraps the app, or is of a function of the file that only uses its attributes."""
    name = file.qualified(call.func) or dotted(call.func)
    if SERVES.search(name):
        return True
    found = [item.node for item in file.lookup(call.func, call.func.id)[1]] if isinstance(call.func, ast.Name) else []
    if len(found) != 1 or not isinstance(found[0], ast.FunctionDef) or use not in call.args:
        return False
    taken = found[0].args.args[call.args.index(use) :][:1]
    reads = [
        each
        for line in found[0].body
        for each in walk(line)
        if isinstance(each, ast.Name) and each.id in {arg.arg for arg in taken}
    ]
    return bool(taken) and all(isinstance(file.parent(each), ast.Attribute) for each in reads)


def why_unfit(file: File, statement: ast.stmt, function: Handler, decorator: ast.Call) -> str:
    body: list[ast.stmt] = getattr(file.parent(statement), "body", [])
    if function not in body or statement not in body:
        return "it is not defined next to the app, or only on a condition"
    for each in (part for line in body[body.index(statement) : body.index(function)] for part in walk(line)):
        if isinstance(each, ast.Return) and file.frame(each) is file.frame(statement):
            return f"line {each.lineno} may return before it is defined"
    if not all(
        isinstance(each, ast.Call) and dotted(each.func).endswith(".on_event") for each in function.decorator_list
    ):
        return "it has another decorator"
    if kind_of_event(decorator) not in (["startup"], ["shutdown"]) or decorator.keywords:
        return "its event is not written out"
    if parameters(function.args):
        return "it takes parameters"
    again = [item for item in file.scopes.of[function].names[function.name] if item.node is not function]
    return f"`{function.name}` has a second meaning" if again else ""


def why_elsewhere(file: File) -> str:
    """Whether another file of the tree may register handlers, on the app or on a router that it includes."""
    if not Path(file.name).is_file():
        includes = "include_router(" in file.text
        return (
            "the app includes routers, whose own handlers FastAPI forgets beside a lifespan: look for these first"
            * includes
        )
    for other, text in other_files(file.name):
        near = Path(file.name).stem.encode() in text or other.stem in file.text  # one may import the other
        if near and any(word.encode() in text for word in (*OTHER_WAYS, *READ)):
            return f"{other.name} registers or runs handlers too, {FORGETS}"
    return ""


# -- the edits ---------------------------------------------------------------------------------------------


def drop_decorator(file: File, decorator: ast.Call) -> Edit:
    """The line of the decorator goes; a comment behind it stays."""
    start, end = file.line_start(file.start(decorator)), file.end(decorator)
    behind = file.starts[file.line_of(end)]
    margin, kept = file.indent(decorator).rpartition("@")[0], file.text[end:behind].strip()
    return Edit(start, behind, f"{margin}{kept}{file.newline}" if kept else "")


def add_argument(file: File, call: ast.Call, name: str) -> Edit:
    """`lifespan=` behind the last argument, on a line of its own where that has one."""
    arguments: list[ast.AST] = sorted((*call.args, *call.keywords), key=file.end)
    if not arguments:
        end = file.end(call) - 1
        return Edit(end, end, f"lifespan={name}")
    margin, end = file.indent(arguments[-1]), file.end(arguments[-1])
    gap = f",{file.newline}{margin}" if not margin.strip() else ", "
    return Edit(end, end, f"{gap}lifespan={name}")


def start_with_comments(file: File, statement: ast.stmt) -> int:
    """Where the statement starts, the comments that stand directly on it included."""
    line = statement.lineno - 1
    while line and file.text[file.starts[line - 1] : file.starts[line]].lstrip().startswith("#"):
        line -= 1
    return file.starts[line]


def blank_line(file: File, app: App, start: int) -> str:
    """What is missing to two blank lines in front of a function of the module, where the file has these elsewhere."""
    text = file.text.replace("\r\n", "\n")
    above = file.text[:start].replace("\r\n", "\n")
    blank = len(above) - len(above.rstrip("\n")) - 1
    wanted = 0 if file.indent(app.statement) else 2 if blank == 1 or "\n\n\n" in text else 0
    return file.newline * max(0, wanted - blank) if above else ""


def write_lifespan(file: File, app: App, name: str) -> str:
    margin, inner = file.indent(app.statement), file.step(app.handlers[0][0])
    start, stop = (
        [call_of(each) for each, how in app.handlers if kind_of_event(how) == [word]]
        for word in ("startup", "shutdown")
    )
    lines = [
        "@asynccontextmanager",
        f"async def {name}(app: {file.source(app.call.func)}):",
        *(inner + row for row in start),
    ]
    if stop:
        lines += [f"{inner}try:", f"{inner * 2}yield", f"{inner}finally:", *(inner * 2 + row for row in stop)]
    else:
        lines += [f"{inner}yield"]
    text = file.newline.join(margin + row for row in lines)
    return text + file.newline * (2 if margin else 3)


def call_of(function: Handler) -> str:
    return f"{'await ' * isinstance(function, ast.AsyncFunctionDef)}{function.name}()"


def kind_of_event(decorator: ast.Call) -> list[object]:
    """What the decorator says that the handler is for: ["startup"] or ["shutdown"]."""
    return [each.value for each in decorator.args if isinstance(each, ast.Constant)]


def free_name(file: File) -> str:
    taken = {name for scope in file.scopes.opened().values() for name in scope.names}
    return next(name for name in ("lifespan", "app_lifespan", "lifespan_of_app", "lifespan_1") if name not in taken)
