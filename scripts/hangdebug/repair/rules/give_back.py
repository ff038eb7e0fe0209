"""Close a client, session or connection that a coroutine opens for itself, on every way out.

    client = httpx.AsyncClient()              async with httpx.AsyncClient() as client:
    page = await client.get(url)                  page = await client.get(url)

An exception, a `return` or a cancellation (a client that leaves a stream) in front of the `close()` passes it over, and
where there is none, each request leaves its connections to the garbage collector. A pool that gets none back has none
left to give, and each request that wants one waits without an end.

What changes: it is closed where the block ends, whichever way that is left, and nothing else.

The rewrite is made only where the function makes the object and keeps it to itself. Where nothing closes it, that is so
for clients whose answers are read by the time a call returns.

Refused aloud: a close in front of which something of the object is returned, lines that hold more than one statement.

Left alone: what is closed in a `finally` or entered in a `with`; what is returned, kept, handed to another function, or
used by a function inside, where nothing closes it: the one that has it then may close it. A driver's connection, whose
`with` ends a transaction and closes nothing, gets a `finally`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.await_places import why_no_await
from hangdebug.repair.code.bindings import walk
from hangdebug.repair.code.executors import runs_at_start_or_stop
from hangdebug.repair.code.file import File, dotted, last_name
from hangdebug.repair.code.findings import Found, Need
from hangdebug.repair.code.receivers import what_is
from hangdebug.repair.code.with_blocks import move_into_block
from hangdebug.repair.model import Edit

ID, CODE = "give_back", "HNG009"
NEEDS = (Need((("async",), ("Client", "ession", "onnect", "acquire", "Redis", "redis", "getconn"))),)
READ = re.compile(r"httpx\.(Async)?Client\(\)|requests\.(sessions\.)?[sS]ession\(\)")  # reads an answer to its end
WITH, ASYNC, FINALLY = "with", "async with", "finally"
MADE = {  # how each is closed whichever way the block is left: the `with` of a driver's connection ends a transaction
    WITH: re.compile(
        rf"httpx\.Client\(\)|{READ.pattern}|(sqlalchemy\.orm|sqlmodel)\.(session\.)?Session\(\)"
        r"|sqlalchemy\.orm\.(session\.)?sessionmaker\(\)\(\)|sqlalchemy\.(engine\.)?create_engine\(\)\.connect\(\)"
        r"|redis\.(Strict)?Redis(\.from_url)?\(\)|socket\.(create_connection|socket)\(\)"
    ),
    ASYNC: re.compile(
        r"httpx\.AsyncClient\(\)|aiohttp\.(client\.)?ClientSession\(\)|redis\.asyncio\.(client\.)?Redis(\.from_url)?\(\)"
        r"|sqlalchemy\.ext\.asyncio\.(session\.)?(async_sessionmaker\(\)\(\)|AsyncSession\(\))"
        r"|asyncpg\.(create_pool|Pool|pool\.Pool)\(\)\.acquire\(\)"
    ),
    FINALLY: re.compile(
        r"(psycopg2?|pymysql|MySQLdb|mysql\.connector|pyodbc|oracledb|sqlite3)\.connect\(\)"
        r"|(psycopg2\.pool\.\w+|psycopg_pool\.\w*ConnectionPool)\(\)\.getconn\(\)"
    ),
}
CLOSES, GIVES = frozenset("close aclose".split()), frozenset("putconn release".split())
REQUESTS = frozenset("get post put patch delete head options request".split())
SETTINGS = frozenset("headers cookies auth verify params timeout trust_env mount max_redirects".split())
STARTS = frozenset("create_task ensure_future start_soon run_coroutine_threadsafe submit".split())
FAILS = (ast.Await, ast.Call, ast.Yield, ast.AsyncFor, ast.AsyncWith, ast.Return, ast.Raise)
NEVER = "`{}` is never closed: its connections stay open until the garbage collector comes"
LATE = "`{}` is closed in line {} only where nothing fails or is cancelled before"
HANDED = "line {} hands on what comes from it, which may need it still: read that to its end before"
ODD = "one of the lines holds more than one statement: write them plainly first"


@dataclass(frozen=True)
class Opened:
    """`name = maker()` in a coroutine: statement and call, the rest of the block, and what closes it there, if any."""

    statement: ast.Assign
    call: ast.Call
    target: ast.Name
    verb: str
    rest: list[ast.stmt]
    last: ast.stmt | None


def search(file: File) -> Iterator[Found]:
    for call in file.calls_in_coroutines:
        value = file.parent(call) if isinstance(file.parent(call), ast.Await) else call
        statement, owner = file.parent(value), file.coroutine(call)
        if owner is None or not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            continue
        target = statement.targets[0]
        if not isinstance(target, ast.Name) or len(file.lookup(target, target.id)[1]) != 1:
            continue
        if what_is(file, call.func).node is not None:  # a function of the tree may give the same one each time
            continue
        trail = what_is(file, call).trail
        verb = (
            ASYNC if MADE[ASYNC].fullmatch(trail) else next((word for word in MADE if MADE[word].fullmatch(trail)), "")
        )
        if not verb or (value is not call) != trail.endswith(".acquire()"):
            continue
        if not file.owned_by(target, owner) or runs_at_start_or_stop(file, owner):
            continue
        block = file.block(statement)
        rest = block[block.index(statement) + 1 :]
        last = next((each for each in rest if closes(each, target.id)), None)
        yield from answer(file, Opened(statement, call, target, verb, rest, last), bool(READ.fullmatch(trail)))


def closes(node: ast.stmt, name: str) -> bool:
    """Whether the statement is `name.close()`, `await name.aclose()` or `pool.putconn(name)`, and nothing else."""
    call = node.value if isinstance(node, ast.Expr) else None
    call = call.value if isinstance(call, ast.Await) else call
    func = call.func if isinstance(call, ast.Call) else None
    if not isinstance(call, ast.Call) or not isinstance(func, ast.Attribute):
        return False
    given = [each.id for each in call.args if isinstance(each, ast.Name)]
    return (func.attr in CLOSES and dotted(func.value) == name) or (func.attr in GIVES and given == [name])


def answer(file: File, one: Opened, read: bool) -> Iterator[Found]:
    name, uses = one.target.id, file.uses(one.target)
    inside = [use for use in uses if one.last is None or one.last not in file.above(use)]
    apart = any(file.frame(use) is not file.frame(one.target) for use in uses)
    late = one.last is not None and any(file.start(use) > file.end(one.last) for use in uses)
    if apart or late or not inside or any(closed_otherwise(file, use) for use in inside):
        return
    if one.last is None and not (read and all(is_settled(file, use, one.verb) for use in inside)):
        return
    if one.verb == FINALLY and isinstance(getattr(one.last, "value", None), ast.Await):
        return
    span = lines_between(file, one, inside)
    if not span or not any(isinstance(part, FAILS) for line in span for part in walk(line)):
        return
    said = LATE.format(name, one.last.lineno) if one.last is not None else NEVER.format(name)
    reason = why_not(file, one, span, read)
    if reason:
        yield Found(one.statement, f"{said}, but {reason}", refused=True)
        return
    shown = "a `finally` does it" if one.verb == FINALLY else f"it becomes `{one.verb} ... as {name}:`"
    yield Found(one.statement, f"{said}; {shown}", tuple(enter(file, one, span)))


def closed_otherwise(file: File, use: ast.expr) -> bool:
    """Whether the use closes it too, or enters it."""
    up = file.parent(use)
    call = up.func if isinstance(up, ast.Call) else up
    gives = isinstance(up, ast.Call) and isinstance(call, ast.Attribute) and call.attr in GIVES
    return gives or isinstance(up, ast.withitem) or getattr(up, "attr", "") in (*CLOSES, "disconnect")


def is_settled(file: File, use: ast.expr, verb: str) -> bool:
    """Whether nothing of what the use gives needs the client any more where its statement ends."""
    up, statement = file.parent(use), file.statement(use)
    if not isinstance(up, ast.Attribute) or "stream" in ast.unparse(statement):
        return False
    if up.attr in SETTINGS:
        return True
    call = file.parent(up)
    if up.attr not in REQUESTS or not isinstance(call, ast.Call) or call.func is not up:
        return False
    around = [each for each in file.above(call) if statement in file.above(each)]
    started = any(isinstance(each, ast.Call) and last_name(each.func) in STARTS for each in around)
    return verb != ASYNC or (not started and any(isinstance(each, ast.Await) for each in around))


def lines_between(file: File, one: Opened, uses: list[ast.expr]) -> list[ast.stmt]:
    """The statements that go into the block: up to the one that closes it, or up to the last that uses it."""
    if one.last is not None:
        return one.rest[: one.rest.index(one.last)]
    used = [index for index, line in enumerate(one.rest) if any(line in file.above(use) for use in uses)]
    return one.rest[: max(used) + 1] if used else []


def why_not(file: File, one: Opened, span: list[ast.stmt], read: bool) -> str:
    starts = [one.statement, *span, *([one.last] if one.last is not None else [])]
    if any(file.indent(line).strip() for line in starts):
        return ODD
    ends = [file.line_end(file.end(line)) == file.end(line) for line in starts[len(span) + 1 :]]
    behind = file.text[file.end(one.statement) : file.line_end(file.end(one.statement))].strip()
    if not all(ends) or behind[:1] not in ("", "#"):
        return ODD
    handed = None if read else line_that_hands_on(file, one, span)
    if handed is not None:
        return HANDED.format(handed.lineno)
    end = file.end(span[-1])
    return why_no_await(file, one.call, at=(end, end)) if one.verb == ASYNC else ""


def line_that_hands_on(file: File, one: Opened, span: list[ast.stmt]) -> ast.Return | None:
    """A `return` in the block whose value comes from the object: before, it went out with the object still open."""
    parts = [part for line in span for part in walk(line)]
    from_it = {one.target.id}
    for part in sorted((each for each in parts if isinstance(each, ast.Assign)), key=file.start):
        if from_it & {each.id for each in walk(part.value) if isinstance(each, ast.Name)}:
            from_it |= {each.id for target in part.targets for each in walk(target) if isinstance(each, ast.Name)}
    returns = [part for part in parts if isinstance(part, ast.Return) and part.value is not None]
    return next(
        (
            each
            for each in sorted(returns, key=file.start)
            if each.value is not None and from_it & {part.id for part in walk(each.value) if isinstance(part, ast.Name)}
        ),
        None,
    )


def enter(file: File, one: Opened, span: list[ast.stmt]) -> Iterator[Edit]:
    statement, margin, new = one.statement, file.indent(one.statement), ""
    if one.verb == FINALLY and one.last is not None:
        behind = file.line_end(file.end(statement))
        yield Edit(behind, behind, f"{file.newline}{margin}try:")
        new = f"{margin}finally:{file.newline}{margin}{file.step(statement)}{file.source(one.last)}"
    else:
        yield Edit(file.start(statement), file.start(one.call), f"{one.verb} ")
        yield Edit(file.end(one.call), file.end(statement), f" as {one.target.id}:")
    yield from move_into_block(file, statement, span[-1], one.last, new)
