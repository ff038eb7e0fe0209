"""Leave an executor without waiting for it, in coroutines and async generators.

    with ThreadPoolExecutor() as pool:            pool = ThreadPoolExecutor()
        yield await run(pool, fetch)              try:
                                                      yield await run(pool, fetch)
                                                  finally:
                                                      pool.shutdown(wait=False, cancel_futures=True)

The end of the `with` block calls `shutdown(wait=True)`: the event loop's thread joins the workers and serves
nothing until the slowest returns. `pool.shutdown()` in a coroutine does the same. `cancel_futures` needs
Python 3.9. An executor that others use too, or that holds work which nothing else waits for, is still waited for:
its `pool.shutdown()` becomes `await asyncio.to_thread(pool.shutdown)`.

What changes: nothing on the normal way out, because a `with` is rewritten only where the coroutine has
awaited the work by then, itself or in a coroutine of this file that it hands the executor to. A producer
that sends to an asyncio.Queue has sent by then what the coroutine awaits; what it does after that is no
longer waited for, and the finding says so. A function beside the block that sends in a loop gets a stop event: it
looks at it before each round, and the exit sets it. On a cancellation or an exception that leaves the function,
work that is still queued is dropped, where it used to run; a call that runs already ends in its own thread,
after the block is left, and interpreter exit still waits for it.

Refused aloud, because mending the exit would change what the program does or would not help:
- only the exit of a `with` waits for some work (a bare `pool.submit(save)`, a future that is read after the block, one
  of many awaited, several producers for one queue, a loop with a `break`, a timeout or a failure that is caught
  in the block), `shield()` protects it from being dropped, or the executor is returned, stored or handed on
- the block waits on the loop's thread by itself (`.result()`, a loop over `pool.map()`, `queue.Queue.get()`)
  and never awaits. Where it also awaits, the exit is mended and the waiting line is reported as refused
- an executor that is known less well: a parameter, one of several, the loop's own, a subclass with an exit of its own
- `wait=` is a variable; an ExitStack leaves the executor; the name is bound again in the block; no await can stand
  where `shutdown()` does
- a lifespan or shutdown handler that joins the pool: by then the loop serves nothing, and the wait lets
  running work finish. It can also hold the exit for ever, so snippets/lifespan_executor.py bounds it

Left alone: synchronous code, `shutdown(wait=False)`, a module's pool of processes, a shutdown handed to a thread
(`asyncio.to_thread(pool.shutdown)`), and receivers that are not known to be an executor.
"""

from __future__ import annotations

from dataclasses import dataclass

import libcst as cst

from hangdebug.repair.code import blocks as _blocks
from hangdebug.repair.code.follow import follow
from hangdebug.repair.code.queues import Stop, stop
from hangdebug.repair.code.scopes import (
    Tree,
    assigned,
    coroutine,
    creates,
    dotted,
    frame,
    holds_executor,
    in_order,
    parse,
    references,
    subtree,
    targets,
)
from hangdebug.repair.code.shared import known_less, lifespan, no_await, own_exit, processes
from hangdebug.repair.code.spans import Need, with_imports
from hangdebug.repair.code.waits import Verdict
from hangdebug.repair.model import Finding

ID = "nonblocking_executor"
NEEDS = (
    Need((("async",), ("ThreadPoolExecutor", "ProcessPoolExecutor", "_default_executor", "Executor")), leaves=True),
)
STREAM = "follow snippets/stream_executor.py"
ODD = "its line endings would not be kept, so the file is left as it is"
WAITS = "on the event loop's thread by itself"
NOTHING = Verdict((), ())
PAUSES = (cst.Await, cst.Yield)


@dataclass(frozen=True)
class Exit:
    """One executor that async code leaves. `name` is what it is bound to, `refusal` why it is not mended."""

    node: cst.With | cst.Call
    owner: cst.FunctionDef
    line: int
    item: int = 0
    name: str = ""
    refusal: str = ""
    verdict: Verdict = NOTHING
    mended: bool = False
    stop: Stop = Stop()
    thread: bool = False  # it is awaited in a thread


def rewrite(
    source: str, file: str, line: int | None = None, exact: bool = False, imports: set[str] | None = None
) -> tuple[str, tuple[Finding, ...]]:
    """The source with every exit mended that can be, and a finding for each exit and each waiting line.

    Raises cst.ParserSyntaxError and RecursionError.
    """
    tree = parse(source)
    if tree.module.code != source:  # a last line that ends in a lone carriage return, for one
        return source, (Finding(ID, file, 1, f"{ODD}; {STREAM}", refused=True),)
    exits = near(tree, [*blocks(tree), *shutdowns(tree)], line, exact)
    edits, loops, needed = {}, {}, set()
    for found in exits:
        if not found.mended and not found.refusal:
            edits.setdefault(found.node, {})[_blocks.THREAD if found.thread else found.item] = (
                found.name,
                found.stop.name,
            )
            needed |= {"asyncio"} if found.thread else set()
            loops.update(dict.fromkeys(found.stop.loops, found.stop.name))
            needed |= {"threading"} if found.stop.loops else set()
    after = tree.module.visit(_blocks.Edit(tree.module, edits, loops)).code if edits else source
    if imports is None:
        after = with_imports(after, needed)
    else:
        imports |= needed
    findings = {item for found in exits for item in report(found, file)}
    return after, tuple(sorted(findings, key=lambda item: (item.line, item.message)))


def near(tree: Tree, exits: list[Exit], line: int | None, exact: bool) -> list[Exit]:
    """The exits whose own lines hold `line`, or else those of the innermost function around it."""
    if line is None:
        return exits
    holds = lambda node: tree.spans[node].start.line <= line <= tree.spans[node].end.line  # noqa: E731
    close = [found for found in exits if holds(found.node)]
    owners = sorted({found.owner for found in exits if holds(found.owner)}, key=tree.line)
    return close or [found for found in exits if owners and not exact and found.owner is owners[-1]]


def report(found: Exit, file: str) -> list[Finding]:
    """The findings of one exit. An exit that is mended already only reports the lines that wait."""
    call = "shutdown()" if isinstance(found.node, cst.Call) else "the end of the `with` block"
    waits = [
        Finding(
            ID,
            file,
            line,
            f"{words} {WAITS}; mending the exit does not unblock this line: await the work instead, {STREAM}",
            refused=True,
        )
        for line, words in found.verdict.waits
    ]
    if found.refusal:
        message = f"{call} joins the executor, but {found.refusal}"
        return [Finding(ID, file, found.line, message, refused=True), *waits]
    if found.mended:
        return waits
    becomes = (
        "`await asyncio.to_thread(...)`, which waits as long, but off the loop"
        if found.thread
        else f"{_blocks.CALM}, which drops what is still queued when an error or a cancellation leaves it"
    )
    message = f"{call} joins the executor on the event loop's thread; it becomes {becomes}"
    for line in found.stop.lines:
        message += f". The work of line {line} ends when `{found.stop.name}` is set, which is before its next item"
    for line in set(found.verdict.unwaited) - set(found.stop.lines):
        message += (
            f". Nothing waits for line {line} any more: what it does after it has sent its last item "
            f"may end after the code below, and it runs on when a client leaves; {STREAM}"
        )
    return [Finding(ID, file, found.line, message), *waits]


def blocks(tree: Tree) -> list[Exit]:
    """Every item of a `with` in async code that leaves an executor."""
    found = []
    for node in in_order(tree, cst.With):
        owner = coroutine(tree, node)
        if owner is None or node.asynchronous:
            continue
        for index, item in enumerate(node.items):
            value = item.item.value if isinstance(item.item, cst.NamedExpr) else item.item
            known = isinstance(value, (cst.Name, cst.Attribute)) and holds_executor(tree, value)
            if creates(tree, value) or known:
                found.append(block(tree, owner, node, index))
            else:
                words = own_exit(tree, made_by(tree, value)) or known_less(tree, value)
                found += [Exit(node, owner, tree.line(node), index, refusal=f"{words}; {STREAM}")] if words else []
    return found


def block(tree: Tree, owner: cst.FunctionDef, node: cst.With, index: int) -> Exit:
    item, line = node.items[index], tree.line(node)
    fresh, target = _blocks.bound(item), _blocks.target(item)
    if target is None:
        return Exit(node, owner, line, index, _blocks.fresh_name(tree.module, index))
    if not isinstance(target, cst.Name) or not is_local(tree, owner, target):
        kept = f"it is kept in {dotted(target) or 'a pattern'}, where other code may hand it work; {STREAM}"
        return Exit(node, owner, line, index, refusal=lifespan(tree, owner) or kept)
    within = set(map(id, subtree(node.body)))
    stores = [spot for spot in targets(tree, target) if id(spot) in within]
    uses = [
        use for use in references(tree, target) if not fresh or id(use) in within or early_closure(tree, owner, use)
    ]
    verdict = follow(tree, owner, uses, node)
    refusal = f"line {tree.line(stores[0])} binds `{target.value}` again; use another name" if stores else ""
    refusal = refusal or lifespan(tree, owner) or judge(verdict, node.body)
    ends = Stop() if refusal or stores else stop(tree, owner, verdict)
    return Exit(node, owner, line, index, target.value, refusal, verdict, stop=ends)


def early_closure(tree: Tree, owner: cst.FunctionDef, use: cst.CSTNode) -> bool:
    """Whether `use` stands in a nested function, outside of every block that might bind the same name."""
    return frame(tree, use) is not owner and not any(isinstance(up, cst.With) for up in tree.above(use))


def shutdowns(tree: Tree) -> list[Exit]:
    """Every `.shutdown()` of a known executor in async code, and every executor given to an ExitStack."""
    found = []
    for node in in_order(tree, cst.Call):
        owner = coroutine(tree, node)
        if owner is None or not isinstance(node.func, cst.Attribute):
            continue
        receiver = node.func.value
        if node.func.attr.value == "enter_context" and node.args and creates(tree, node.args[0].value):
            refusal = f"an ExitStack leaves it; make it a block of its own, {STREAM}"
            found.append(Exit(node, owner, tree.line(node), refusal=refusal))
        elif node.func.attr.value == "shutdown" and holds_executor(tree, receiver) and not processes(tree, receiver):
            found.append(shutdown(tree, owner, node, receiver))
        elif node.func.attr.value == "shutdown" and _blocks.waits(node):
            words = own_exit(tree, made_by(tree, receiver)) or known_less(tree, receiver)
            refusal = words and (lifespan(tree, owner) or f"{words}; {STREAM}")
            found += [Exit(node, owner, tree.line(node), refusal=refusal)] if words else []
    return found


def made_by(tree: Tree, node: cst.BaseExpression) -> cst.CSTNode | None:
    """The one call that the expression is, or that all it stands for is."""
    values = (
        [node]
        if isinstance(node, cst.Call) or not dotted(node)
        else [assigned(tree, each) for each in targets(tree, node)]
    )
    return values[0] if len(values) == 1 else None


def shutdown(tree: Tree, owner: cst.FunctionDef, node: cst.Call, receiver: cst.BaseExpression) -> Exit:
    wait, line = _blocks.waits(node), tree.line(node)
    local = isinstance(receiver, cst.Name) and is_local(tree, owner, receiver)
    uses = references(tree, receiver) if local else []
    verdict = follow(tree, owner, uses, node) if local else NOTHING
    if wait is False:
        return Exit(node, owner, line, verdict=verdict, mended=True)
    if wait is None:
        return Exit(node, owner, line, refusal=f"its `wait` is known only at run time; write it out, or {STREAM}")
    refusal = lifespan(tree, owner) or judge(verdict, owner.body)
    if local and not refusal or lifespan(tree, owner):
        return Exit(node, owner, line, refusal=refusal, verdict=verdict)
    if verdict.waits:
        return Exit(node, owner, line, refusal=refusal, verdict=verdict)
    kept = no_await(tree, node)  # others may wait for what is in it, or only this wait completes it
    refusal = f"{kept}; {STREAM}" if kept else ""
    return Exit(node, owner, line, refusal=refusal, verdict=verdict, thread=True)


def judge(verdict: Verdict, body: cst.CSTNode) -> str:
    """Why the exit must stay as it is, "" if it can be mended."""
    if verdict.loose:
        line, words = verdict.loose[0]
        return (
            f"line {line} may leave work that only this wait completes: {words}; await it before the exit, or {STREAM}"
        )
    if verdict.waits and not any(isinstance(node, PAUSES) or asynchronous(node) for node in subtree(body)):
        line, words = verdict.waits[0]
        return f"line {line} blocks before that ({words}), so mending the exit cures nothing; {STREAM}"
    return ""


def is_local(tree: Tree, owner: cst.FunctionDef, name: cst.Name) -> bool:
    """Whether the name belongs to the coroutine, not to the module or a function around it."""
    return tree.scopes[name] is tree.scopes[owner.body] and all(
        item.scope is tree.scopes[owner.body] for item in tree.scopes[name][name.value]
    )


def asynchronous(node: cst.CSTNode) -> bool:
    return isinstance(node, (cst.For, cst.With, cst.CompFor)) and node.asynchronous is not None
