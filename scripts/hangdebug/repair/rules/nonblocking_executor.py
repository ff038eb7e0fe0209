"""Leave an executor without waiting for it, in coroutines and async generators.

    with ThreadPoolExecutor() as pool:            pool = ThreadPoolExecutor()
        yield await run(pool, fetch)              try:
                                                      yield await run(pool, fetch)
                                                  finally:
                                                      pool.shutdown(wait=False, cancel_futures=True)

The end of the `with` block calls `shutdown(wait=True)`: the event loop's thread joins the workers and serves
nothing until the slowest returns. `pool.shutdown()` in a coroutine does the same. `cancel_futures` needs
Python 3.9; without it what is queued still runs. An executor that others use too, that holds work which nothing
else waits for, or whose work uses what is freed behind it (a temporary folder, an open file), is still waited for:
its exit becomes `await asyncio.to_thread(pool.shutdown)`, in a web application shielded from a cancellation where
something is freed behind it.

What changes: nothing on the normal way out, because no wait is left out but where the coroutine has
awaited the work by then, itself or in a coroutine of this file that it hands the executor to. A producer
that sends to an asyncio.Queue has sent by then what the coroutine awaits; what it does after that is no
longer waited for, and the finding says so. A function beside the block that sends in a loop gets a stop event: it
looks at it before each round, and the exit sets it. On a cancellation or an exception that leaves the function,
work that is still queued is dropped, where it used to run; a call that runs already ends in its own thread,
after the block is left, and interpreter exit still waits for it.

Refused aloud, because mending the exit would change what the program does or would not help:
- only the exit waits for some work or keeps something from being freed, and no await can stand there: a lock is held,
  a task may start only then, a cancelled wait would free it too early
- the block waits on the loop's thread by itself (`.result()`, a loop over `pool.map()`, `queue.Queue.get()`)
  and never awaits before. Where it also awaits, the exit is mended and the waiting line is reported as refused
- an executor that is known less well: a parameter, one of several, the loop's own, a subclass with an exit of its own
- `wait=` is a variable; an ExitStack leaves the executor; the name is bound again in the block; no await can stand
  where `shutdown()` does
- a lifespan or shutdown handler that joins the pool: by then the loop serves nothing, and the wait lets
  running work finish. It can also hold the exit for ever, so snippets/lifespan_executor.py bounds it

Left alone: synchronous code, `shutdown(wait=False)`, a module's pool of processes, a shutdown handed to a thread
(`asyncio.to_thread(pool.shutdown)`), and receivers that are not known to be an executor.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Union

from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.await_places import (
    TAKEN,
    call_in_thread,
    import_needed,
    imports_module,
    loop_module,
    thread_head,
    thread_shown,
    why_no_await,
)
from hangdebug.repair.code.bindings import walk
from hangdebug.repair.code.executor_work import judge_executor
from hangdebug.repair.code.executors import (
    creates_executor,
    holds_executor,
    is_known,
    is_pool_of_processes,
    runs_at_start_or_stop,
    says_wait,
    why_known_less,
    why_own_exit,
)
from hangdebug.repair.code.file import File, dotted, fresh_name, last_name
from hangdebug.repair.code.findings import Found, Need
from hangdebug.repair.code.layout import project_of
from hangdebug.repair.code.producers import Stop, find_stop, handed, parts_of_work
from hangdebug.repair.code.receivers import what_is
from hangdebug.repair.code.stopping import BY_HAND, SECONDS, stop_work, what_loads_anew
from hangdebug.repair.code.while_awaiting import freed_around
from hangdebug.repair.code.with_blocks import CALM, CALM_38, Leaving, Plan, check_event, stop_waiting, take_apart
from hangdebug.repair.code.work_waits import Judgement
from hangdebug.repair.model import Edit

ID, CODE = "nonblocking_executor", "HNG006"
NEEDS = (
    Need((("async",), ("Executor", "_default_executor"))),
    Need((("async",), ("state.",))),  # the pool may be made in another file
)
STARTS = ("create_task", "ensure_future", "start_soon")
SHARED = "others may use the executor"
STREAM = "follow snippets/stream_executor.py"
LIFESPAN = "a lifespan waits for its work on purpose, while nothing is served; follow snippets/lifespan_executor.py"
STACK = f"an ExitStack leaves it; make it a block of its own, {STREAM}"
RUN_TIME = f"its `wait` is known only at run time; write it out, or {STREAM}"
WAITS = "on the event loop's thread by itself"
SHIELDED = ("with anyio.CancelScope(shield=True):", "\tawait anyio.to_thread.run_sync({}.shutdown)")
WEB = ("starlette", "fastapi", "sse_starlette", "anyio")
NOTHING, NO_STOP = Judgement(), Stop()
PAUSES = (ast.Await, ast.Yield, ast.YieldFrom, ast.AsyncFor, ast.AsyncWith)
Node = Union[ast.With, ast.Call]


@dataclass(frozen=True)
class Exit:
    """One executor that async code leaves. `name` is what it is bound to, `refusal` why it is not mended."""

    node: Node
    owner: ast.AsyncFunctionDef
    item: int = 0
    name: str = ""
    refusal: str = ""
    judgement: Judgement = NOTHING
    mended: bool = False
    stop: Stop = NO_STOP
    thread: str = ""  # why it is awaited in a thread, "" where it is not awaited
    calls: tuple[ast.Call, ...] = ()  # that hand work over
    shield: bool = False  # and no cancellation may cut that short


def search(file: File) -> Iterator[Found]:
    exits = [*find_blocks(file), *find_shutdowns(file)]
    todo = [each for each in exits if not each.mended and not each.refusal]
    plan = Plan(file)
    for each in todo:
        if isinstance(each.node, ast.With):
            plan.blocks.setdefault(each.node, {})[each.item] = Leaving(
                each.name, each.stop.name, leaving_lines(file, each)
            )
        else:
            plan.calls.append(each.node)
    for each in sorted(exits, key=lambda each: -file.start(each.node)):  # of two blocks that end together, the inner
        yield from waiting_lines(each)
        if each in todo:
            edits, imports = tuple(edits_of(plan, each)), imports_of(file, each)
            yield Found(each.node, mending_message(file, each), edits, imports, stays=what_stays(file, each))
        elif each.refusal:
            yield Found(each.node, f"{call_of(each)} joins the executor, but {each.refusal}", refused=True)


def edits_of(plan: Plan, each: Exit) -> Iterator[Edit]:
    if isinstance(each.node, ast.Call):
        yield from (
            (call_in_thread(plan.file, each.node) or ()) if each.thread else [stop_waiting(plan.file, each.node)]
        )
    elif each.item == min(plan.blocks[each.node]):  # the edits of one block mend all its items
        yield from take_apart(plan, each.node)
    yield from (check_event(plan, loop, each.stop.name) for loop in each.stop.loops)
    yield from each.stop.edits


def leaving_lines(file: File, each: Exit) -> tuple[str, ...]:
    if each.shield:
        return tuple(line.format(each.name) for line in SHIELDED)
    if each.thread:
        return (f"await {thread_head(file)}{each.name}.shutdown)",)
    return (f"{each.name}.{CALM if project_of(file.name).has(9) else CALM_38}",)


def imports_of(file: File, each: Exit) -> tuple[str, ...]:
    loop = "anyio" if each.shield else loop_module(file)
    modules = [name for name, use in ((loop, each.thread), ("threading", each.stop.name)) if use]
    return tuple(needs for name in modules for needs in import_needed(file, each.node, name) or ())


def what_stays(file: File, each: Exit) -> str:
    """What the rewrite cannot mend, and what to do about it by hand, in one line; "" where nothing is left."""
    costs = [what_costs(file, call) for call in each.calls]
    return ". ".join(dict.fromkeys(filter(None, (what_runs_on(file, each), *costs))))


def what_costs(file: File, call: ast.Call) -> str:
    found = what_is(file, handed(call))
    if found.file is None or not isinstance(found.node, ast.FunctionDef):
        return ""
    where = f" of {Path(found.file.name).name}" if found.file is not file else ""
    return what_loads_anew(found.file, found.file.run_by(found.node), where)


WHEN_IT_COMES = (
    "when something comes, for whom it reads from may be silent for long, and the exit of the process waits for that; "
    "give the socket a time-out, and go on after each TimeoutError"
)
WHEN_IT_IS_MUCH = (
    "when so many bytes have come, which takes long if its peer sends few and not in chunks, and the exit of the "
    "process waits for that; iter_bytes() of httpx gives what has come"
)


def what_runs_on(file: File, each: Exit) -> str:
    if each.thread:
        return (
            f"line {file.line(each.node)}: the exit still waits for its work, in a thread that nothing ends, and so "
            f"does the exit of the process; {BY_HAND}"
        )
    ended = {*each.stop.lines, *each.stop.ends}
    for lines, seldom in ((each.stop.waits, WHEN_IT_COMES), (each.stop.fills, WHEN_IT_IS_MUCH)):
        if lines:
            return f"line {', '.join(map(str, lines))}: its thread looks at `{each.stop.name}` {seldom}"
    left = sorted((call for call in each.calls if file.line(call) not in ended), key=file.line)
    if not left:
        return ""
    which = ", ".join(dict.fromkeys(str(file.line(call)) for call in left))
    names = [named_work(file, call) for call in left]
    what = " and ".join(dict.fromkeys(names)) if all(names) else "a call"
    return (
        f"line {which}: {what} may run on in its thread after the client has left, and the exit of the process "
        f"waits for it; {BY_HAND}"
    )


def named_work(file: File, call: ast.Call) -> str:
    """The function that runs in the thread, with where it stands, "" where that is not known."""
    given = handed(call)
    found = what_is(file, given)
    if given is None or found.file is None or not isinstance(found.node, ast.FunctionDef):
        return ""
    where = f" of {Path(found.file.name).name}" if found.file is not file else ""
    return f"`{file.short(given)}` (line {found.file.line(found.node)}{where})"


def call_of(each: Exit) -> str:
    return "shutdown()" if isinstance(each.node, ast.Call) else "the end of the `with` block"


def waiting_lines(each: Exit) -> Iterator[Found]:
    """The lines that block by themselves, whatever becomes of the exit."""
    for line, words in each.judgement.waits:
        more = f"mending the exit does not unblock this line: await the work instead, {STREAM}"
        yield Found(each.node, f"{words} {WAITS}; {more}", refused=True, line=line)


def mending_message(file: File, each: Exit) -> str:
    becomes = f"{CALM}, which drops what is still queued when an error or a cancellation leaves it"
    if not project_of(file.name).has(9):
        becomes = f"{CALM_38}, since the project supports a Python before 3.9: what is queued still runs"
    if each.thread:
        name = each.name or file.short(each.node.func).rpartition(".")[0]  # type: ignore[union-attr]
        becomes = f"`await {thread_shown(file)}{name}.shutdown)`, which waits as long, but off the loop: {each.thread}"
    message = f"{call_of(each)} joins the executor on the event loop's thread; it becomes {becomes}"
    for line in each.stop.lines:
        message += f". The work of line {line} ends when `{each.stop.name}` is set, which is before its next item"
    for line in each.stop.ends:
        message += (
            f". The work of line {line} ends soon after `{each.stop.name}` is set: it looks at it between its steps"
        )
    for line, keyword in each.stop.limits:
        message += f". The call of line {line} had no time-out and gets one of {SECONDS} s: choose your own"
        if each.judgement.unwaited:
            message += ", and have the function send its end where it fails, for the coroutine waits for that"
        if keyword == "connect_timeout":
            message += ". It limits the connecting alone: a query that may take long needs a statement_timeout"
    for line in sorted(set(each.judgement.unwaited) - {*each.stop.lines, *each.stop.ends}):
        message += (
            f". Nothing waits for line {line} any more: what it does after it has sent its last item "
            f"may end after the code below, and it runs on when a client leaves; {STREAM}"
        )
    return message


# -- the blocks --------------------------------------------------------------------------------------------


def find_blocks(file: File) -> Iterator[Exit]:
    """Every item of a `with` in async code that leaves an executor."""
    for node in [each for each in file.scopes.parents if isinstance(each, ast.With)]:
        owner = file.coroutine(node)
        if owner is None:
            continue
        for index, item in enumerate(node.items):
            value = item.context_expr.value if isinstance(item.context_expr, ast.NamedExpr) else item.context_expr
            if is_known(file, value):
                yield judge_block(file, owner, node, index)
                continue
            words = why_own_exit(file, value) or why_known_less(file, value)
            if words:
                yield Exit(node, owner, index, refusal=f"{words}; {STREAM}")


def judge_block(file: File, owner: ast.AsyncFunctionDef, node: ast.With, index: int) -> Exit:
    target = name_inside(node.items[index])
    if target is None:
        return Exit(node, owner, index, fresh_name(file, "executor", unnamed_before(file, node, index)))
    if not isinstance(target, ast.Name) or not is_local(file, owner, target):
        kept = f"it is kept in {dotted(target) or 'a pattern'}, where other code may hand it work; {STREAM}"
        return Exit(node, owner, index, refusal=LIFESPAN if runs_at_start_or_stop(file, owner) else kept)
    fresh = not isinstance(node.items[index].context_expr, (ast.Name, ast.Attribute))
    uses = [
        use for use in file.uses(target) if not fresh or in_body(file, node, use) or early_closure(file, owner, use)
    ]
    stores = [file.line(item.node) for item in file.lookup(target, target.id)[1] if in_body(file, node, item.node)]
    judgement = judge_executor(file, owner, uses, node)
    refusal = f"line {min(stores)} binds `{target.id}` again; use another name" if stores else ""
    refusal = refusal or LIFESPAN * runs_at_start_or_stop(file, owner) or why_blocked(judgement, node.body)
    works = works_of(file, [use for use in uses if in_body(file, node, use)])
    loose, freed = why_loose(judgement), "" if refusal else freed_around(file, owner, node, works, index)
    ends = NO_STOP if refusal or loose or freed else what_ends(file, owner, judgement, works)
    found = Exit(node, owner, index, target.id, refusal, judgement, stop=ends, calls=hand_overs(works))
    return wait_in_thread(file, found, loose, freed) if not refusal and (loose or freed) else found


def what_ends(file: File, owner: ast.AsyncFunctionDef, judgement: Judgement, works: list[ast.AST]) -> Stop:
    return stop_work(file, owner, [*hand_overs(works)], find_stop(file, owner, judgement), judgement.unwaited)


def hand_overs(works: list[ast.AST]) -> tuple[ast.Call, ...]:
    return tuple(each for each in works if isinstance(each, ast.Call))


def works_of(file: File, uses: list[ast.expr]) -> list[ast.AST]:
    """The calls that hand work to the executor, with the local functions that they hand over."""
    calls = {next((up for up in file.above(use) if isinstance(up, ast.Call)), None): None for use in uses}
    return [part for call in calls if call is not None for part in parts_of_work(file, call)]


def wait_in_thread(file: File, each: Exit, loose: str, freed: str) -> Exit:
    """The same exit, waited for in a thread: some work is completed by nothing else, or uses what is freed then."""
    inside = file.end(each.node)
    shield = bool(freed) and any(imports_module(file, module) for module in WEB)
    refusal = why_no_thread(file, each, at=(inside, inside))
    inside_block = [part for line in getattr(each.node, "body", ()) for part in walk(line)]
    if loose and any(isinstance(part, ast.Call) and last_name(part.func) in STARTS for part in inside_block):
        refusal = refusal or "a task that starts only then would find the executor open still"
    if loose and freed and not shield:
        refusal = refusal or f"{freed}, also where this wait is cancelled"
    if shield and import_needed(file, each.node, "anyio") is None:
        refusal = refusal or TAKEN.format("anyio")
    if refusal:
        return replace(each, refusal=f"{loose or freed}, and it cannot be awaited: {refusal}; {STREAM}")
    return replace(each, thread=loose or freed, shield=shield)


def in_body(file: File, block: ast.With, node: ast.AST) -> bool:
    return block in file.above(node) and file.start(node) >= file.start(block.body[0])


def name_inside(item: ast.withitem) -> ast.expr | None:
    """What the executor is called inside the block, None if nothing."""
    if item.optional_vars is not None or isinstance(item.context_expr, (ast.Name, ast.Attribute)):
        return item.optional_vars or item.context_expr
    return item.context_expr.target if isinstance(item.context_expr, ast.NamedExpr) else None


def unnamed_before(file: File, node: ast.With, index: int) -> int:
    """How many executors without a name are entered in front of the item, by this block and those around it."""
    around = [item for up in file.above(node) if isinstance(up, ast.With) for item in up.items]
    return sum(
        name_inside(item) is None and creates_executor(file, item.context_expr)
        for item in (*around, *node.items[:index])
    )


def early_closure(file: File, owner: ast.AsyncFunctionDef, use: ast.expr) -> bool:
    """Whether `use` stands in a nested function, outside of every block that might bind the same name."""
    return file.frame(use) is not owner and not any(isinstance(up, (ast.With, ast.AsyncWith)) for up in file.above(use))


def is_local(file: File, owner: ast.AsyncFunctionDef, name: ast.Name) -> bool:
    """Whether the name belongs to the coroutine, not to the module or a function around it."""
    own = file.scopes.known_opened[owner]
    return file.scopes.of[name] is own and file.lookup(name, name.id)[0] is own


# -- the calls of shutdown() -------------------------------------------------------------------------------


def find_shutdowns(file: File) -> Iterator[Exit]:
    """Every `.shutdown()` of a known executor in async code, and every executor given to an ExitStack."""
    for node in file.calls_in_coroutines:
        owner = file.coroutine(node)
        if owner is None or not isinstance(node.func, ast.Attribute):
            continue
        receiver, method = node.func.value, node.func.attr
        if method == "enter_context" and node.args and creates_executor(file, node.args[0]):
            yield Exit(node, owner, refusal=STACK)
        left = node.args[0] if node.args and method in ("to_thread", "run_sync") else None
        if isinstance(left, ast.Attribute) and left.attr == "shutdown" and is_local_executor(file, owner, left.value):
            uses = [use for use in file.uses(left.value) if use is not left.value]
            yield Exit(node, owner, judgement=judge_executor(file, owner, uses, node), mended=True)
        if method != "shutdown":
            continue
        if holds_executor(file, receiver) and not is_pool_of_processes(file, receiver):
            yield judge_shutdown(file, owner, node, receiver)
        elif says_wait(node):
            words = why_own_exit(file, receiver) or why_known_less(file, receiver)
            if words:
                yield Exit(node, owner, refusal=LIFESPAN * runs_at_start_or_stop(file, owner) or f"{words}; {STREAM}")


def is_local_executor(file: File, owner: ast.AsyncFunctionDef, node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and is_local(file, owner, node) and holds_executor(file, node)


def judge_shutdown(file: File, owner: ast.AsyncFunctionDef, node: ast.Call, receiver: ast.expr) -> Exit:
    local = isinstance(receiver, ast.Name) and is_local(file, owner, receiver)
    judgement = judge_executor(file, owner, file.uses(receiver), node) if local else NOTHING
    if says_wait(node) is False:
        return Exit(node, owner, judgement=judgement, mended=True)
    if says_wait(node) is None:
        return Exit(node, owner, refusal=RUN_TIME)
    blocked = why_blocked(judgement, owner.body)
    refusal = LIFESPAN * runs_at_start_or_stop(file, owner) or blocked
    loose = why_loose(judgement)
    works = works_of(file, [use for use in file.uses(receiver) if use is not receiver]) if local else []
    freed = freed_around(file, owner, node, works) if local and not refusal else ""
    if (local and not refusal and not loose and not freed) or refusal == LIFESPAN or judgement.waits:
        ends = NO_STOP if refusal else set_before(file, owner, node, what_ends(file, owner, judgement, works))
        return Exit(node, owner, refusal=refusal, judgement=judgement, stop=ends, calls=hand_overs(works))
    found = Exit(node, owner, judgement=judgement, thread=loose or freed or SHARED)
    kept = why_no_thread(file, found)
    if kept and (loose or freed):
        kept = f"{loose or freed}, and it cannot be awaited: {kept}"
    return replace(found, refusal=f"{kept}; {STREAM}" if kept else "")


def set_before(file: File, owner: ast.AsyncFunctionDef, node: ast.Call, stop: Stop) -> Stop:
    """The stop with an event that is made where the executor is, and set where a `finally` shuts that down."""
    if not stop.name:
        return stop
    receiver, leaving = node.func.value, file.parent(node)  # type: ignore[attr-defined]
    bound = file.lookup(receiver, receiver.id)[1]
    made = file.parent(bound[0].node)
    plain = len(bound) == 1 and isinstance(made, (ast.Assign, ast.AnnAssign)) and file.frame(made) is owner
    other = [use for use in file.uses(receiver) if file.method_call(use, "shutdown") not in (None, node)]
    final = any(isinstance(up, ast.Try) and leaving in up.finalbody for up in file.above(leaving))
    if not plain or other or not final or any(file.indent(each).strip() for each in (made, leaving)):
        return NO_STOP
    edits = (
        Edit(file.start(each), file.start(each), f"{line}{file.newline}{file.indent(each)}")
        for each, line in ((made, f"{stop.name} = threading.Event()"), (leaving, f"{stop.name}.set()"))
    )
    return replace(stop, edits=(*stop.edits, *edits))


def why_no_thread(file: File, each: Exit, at: tuple[int, int] | None = None) -> str:
    """Why `await asyncio.to_thread(pool.shutdown)` cannot stand where the executor is left, "" where it can."""
    if "set_default_executor" in file.text:
        return "the file gives the loop a default executor, on which asyncio.to_thread() would wait for itself"
    node = each.node
    if isinstance(node, ast.Call) and not isinstance(file.parent(node), ast.Expr):
        return "it stands in the middle of a statement"
    odd = isinstance(node, ast.Call) and call_in_thread(file, node) is None
    return why_no_await(file, node, last=True, at=at) or "its parentheses are unusual: write it plainly first" * odd


def why_loose(judgement: Judgement) -> str:
    """Which work only the exit waits for, in words, "" for none."""
    if not judgement.loose:
        return ""
    line, words = judgement.loose[0]
    return f"line {line} may leave work that only this wait completes: {words}"


def why_blocked(judgement: Judgement, body: list[ast.stmt]) -> str:
    """Why another exit would not help: the block waits on the loop's thread by itself before it ever awaits."""
    if not judgement.waits:
        return ""
    line, words = judgement.waits[0]
    pauses = [part for each in body for part in walk(each) if is_pause(part)]
    if all(getattr(each, "lineno", line) >= line for each in pauses):
        return f"line {line} blocks before that ({words}), so another exit would not help; {STREAM}"
    return ""


def is_pause(node: ast.AST) -> bool:
    return isinstance(node, PAUSES) or (isinstance(node, ast.comprehension) and bool(node.is_async))
