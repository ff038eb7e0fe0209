"""Work that nothing awaits, but that sends what it has to an asyncio.Queue which the coroutine awaits.

    executor.submit(produce, queue, loop)
    while (item := await queue.get()) is not None:
        yield item

The block ends normally only by what `produce` sent, so the work has begun by then and nothing queued is
dropped. That holds where the queue is made in this file for this one piece of work: whatever else touches it
(a second producer, a heartbeat, the caller) might end the block while the work is still queued. An
asyncio.Event that the work sets, and an asyncio future that it resolves, say the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import libcst as cst

from hangdebug.repair.code.scopes import Tree, assigned, dotted, frame, in_order, qualified, references, subtree
from hangdebug.repair.code.waits import Trail, Verdict, Work, again, settle, verb

RECEIVE = {
    "asyncio.Queue": "get",
    "asyncio.LifoQueue": "get",
    "asyncio.PriorityQueue": "get",
    "asyncio.Event": "wait",
    "asyncio.Future": "",
}
THREADS = frozenset(f"queue.{name}" for name in ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"))
READS = frozenset("get get_nowait empty full qsize maxsize task_done wait is_set done result".split())
FILLED = frozenset("list dict set bytearray deque defaultdict Counter OrderedDict BytesIO StringIO".split())
DISPLAYS = (cst.List, cst.Dict, cst.Set, cst.ListComp, cst.DictComp, cst.SetComp)
STARTS, NOW = ("submit", "run_in_executor"), ("False", "0")
LOGS = {"log", "logger", "logging", "print"}
REPEATS = (cst.For, cst.While, cst.ListComp, cst.SetComp, cst.DictComp, cst.GeneratorExp)


def told(trail: Trail, work: Work) -> bool:
    """Whether the coroutine gets to the exit only by what this work sends."""
    node, parts = work.node, carried(trail.tree, work.node)
    if frame(trail.tree, node) is not trail.owner:
        return False  # a nested function starts it, perhaps many times
    if not isinstance(node, cst.Call) or verb(node) not in STARTS:
        return False
    left = leftovers(trail, parts)
    if left:
        trail.notes[work] = left
    for name in channels(trail.tree, parts) if not left else ():
        kinds, uses = maker(trail.tree, name) & set(RECEIVE), outside(trail.tree, name, parts)
        found = [received(trail, use, kinds) for use in uses if alone(trail, work, name, parts, uses)]
        for wait in filter(None, found):
            loops = again(trail, wait) - set(trail.tree.above(node))
            if not any(isinstance(loop, cst.For) for loop in loops):
                settle(trail, work, wait)  # a `for` may have no round, and end before the work has begun
    return work in trail.awaited


def thread_queues(trail: Trail, work: Work) -> None:
    """Note each `.get()` of a queue of threads in the coroutine, where it never asks if that is empty."""
    parts = carried(trail.tree, work.node)
    for name in channels(trail.tree, parts):
        calls = [trail.tree.parents[trail.tree.parents[use]] for use in outside(trail.tree, name, parts)]
        start = f"{name.value}."
        calls = [call for call in calls if isinstance(call, cst.Call)]
        calls = [call for call in calls if dotted(call.func).startswith(start)]
        asked = any(verb(call) in ("empty", "qsize") for call in calls)
        for call in calls if maker(trail.tree, name) & THREADS and not asked else ():
            if verb(call) == "get" and not any(getattr(arg.value, "value", "") in NOW for arg in call.args):
                trail.blocked[work, call] = "get() of a thread's queue waits"


def carried(tree: Tree, call: cst.Call) -> set:
    """The call and the local functions that it hands over, those included that they call in turn."""
    parts, fresh = set(), [call]
    while fresh:
        part = fresh.pop()
        parts.add(part)
        for name in names(tree, part):
            homes = [getattr(item, "node", None) for item in tree.scopes[name][name.value]]
            fresh += [
                home
                for home in homes
                if isinstance(home, cst.FunctionDef)
                and home not in parts
                and isinstance(frame(tree, home), cst.FunctionDef)
            ]
    return parts


def names(tree: Tree, node: cst.CSTNode) -> list[cst.Name]:
    return [each for each in subtree(node) if isinstance(each, cst.Name) and tree.scopes.get(each)]


def channels(tree: Tree, parts: set) -> list[cst.Name]:
    """The places, one a name, at which a function around the work binds what the work reads, if it is one."""
    found = []
    for name in (each for part in parts for each in names(tree, part)):
        nodes = [getattr(item, "node", None) for item in tree.scopes[name][name.value]]
        if len(nodes) == 1 and isinstance(nodes[0], cst.Name) and nodes[0] not in found:
            found += nodes if isinstance(frame(tree, nodes[0]), cst.FunctionDef) else []
    return found


def maker(tree: Tree, name: cst.Name) -> set[str]:
    value = assigned(tree, name)
    if not isinstance(value, cst.Call):
        return set()
    return {"asyncio.Future"} if verb(value) == "create_future" else qualified(tree, value.func)


def leftovers(trail: Trail, parts: set) -> str:
    """What the work fills and the coroutine reads after the exit, in words: there the exit has to wait."""
    for name in channels(trail.tree, parts):
        value = assigned(trail.tree, name)
        value = value.func if isinstance(value, cst.Call) else value
        late = [use for use in outside(trail.tree, name, parts) if trail.tree.start(use) >= trail.end]
        if late and (
            isinstance(value, cst.BaseExpression)
            and dotted(value).split(".")[-1] in FILLED
            or isinstance(value, DISPLAYS)
        ):
            line = trail.tree.line(late[0])
            return f"line {line} reads `{name.value}` after the exit, and it may fill that still"
    rebinds = any(isinstance(node, cst.Nonlocal) for part in parts for node in subtree(part))
    return "it binds a name of the function around it" if rebinds else ""


def outside(tree: Tree, name: cst.Name, parts: set) -> list[cst.Name]:
    """The places that read the name, those of the work itself left out."""
    return [use for use in references(tree, name) if not parts & {use, *tree.above(use)}]


def alone(trail: Trail, work: Work, name: cst.Name, parts: set, uses: list[cst.Name]) -> bool:
    """Whether only this work, started once for each time the queue is made, can put anything into it."""
    tree, around = trail.tree, set(trail.tree.above(name))
    local = [part for part in parts if isinstance(part, cst.FunctionDef)]
    shared = [use for part in local for use in references(tree, part) if not parts & set(tree.above(use))]
    repeated = [up for up in tree.above(work.node) if isinstance(up, REPEATS) and up not in around]
    return not shared and not repeated and all(reads(trail, use) for use in uses)


def reads(trail: Trail, use: cst.Name) -> bool:
    """Whether the coroutine itself only takes from it there, and before the exit."""
    parent = trail.tree.parents[use]
    taken = isinstance(parent, cst.Attribute) and parent.attr.value in READS or awaits(trail.tree, use)
    return bool(taken) and frame(trail.tree, use) is trail.owner and trail.tree.start(use) < trail.end


def received(trail: Trail, use: cst.Name, kinds: set[str]) -> cst.Await | None:
    """The `await` that ends only when the work has sent something."""
    wanted, parent = {RECEIVE[kind] for kind in kinds}, trail.tree.parents[use]
    if "" in wanted:
        return awaits(trail.tree, use)
    call = trail.tree.parents[parent]
    named = isinstance(parent, cst.Attribute) and parent.attr.value in wanted
    return awaits(trail.tree, call) if named and isinstance(call, cst.Call) else None


def awaits(tree: Tree, node: cst.CSTNode) -> cst.Await | None:
    """The `await` of `node` or of `asyncio.wait_for(node, ...)`."""
    parent = tree.parents[node]
    outer = tree.parents[parent]
    if isinstance(parent, cst.Arg) and isinstance(outer, cst.Call) and verb(outer) == "wait_for":
        parent = tree.parents[outer] if parent is outer.args[0] else None
    return parent if isinstance(parent, cst.Await) else None


# -- a producer that is told to stop when the coroutine leaves ----------------------------------------------


@dataclass(frozen=True)
class Stop:
    """The event's name, the loops that look at it, and the lines of the work that it ends."""

    name: str = ""
    loops: frozenset = frozenset()
    lines: tuple[int, ...] = ()


def stop(tree: Tree, owner: cst.FunctionDef, verdict: Verdict) -> Stop:
    """What the exit of an executor can stop: work that the coroutine gets items from, if it is a function here."""
    loops, lines = set(), []
    taken = {node.value for node in tree.parents if isinstance(node, cst.Name)}
    if not verdict.unwaited or "threading" in taken and not imports_threading(tree):
        return Stop()
    for call in in_order(tree, cst.Call):
        if tree.line(call) in verdict.unwaited and verb(call) in STARTS and frame(tree, call) is owner:
            found = feeding(tree, owner, call)
            loops |= found
            lines += [tree.line(call)] if found else []
    name = next(each for each in ("stop", *(f"stop_{count}" for count in range(1, 99))) if each not in taken)
    return Stop(name, frozenset(loops), tuple(lines)) if loops else Stop()


def imports_threading(tree: Tree) -> bool:
    """Whether the module itself imports it, and nothing else has that name."""
    scope = tree.scopes[tree.module.body[0]] if tree.module.body else None
    found = [item for item in scope["threading"]] if scope else []
    plain = [item for item in found if isinstance(getattr(item, "node", None), cst.Import)]
    bound = [
        node
        for node in tree.parents
        if isinstance(node, (cst.Param, cst.AssignTarget))
        and getattr(getattr(node, "name", getattr(node, "target", None)), "value", "") == "threading"
    ]
    return bool(plain) and len(plain) == len(found) and not bound


def feeding(tree: Tree, owner: cst.FunctionDef, call: cst.Call) -> set:
    """The loops of the one function that the call hands over, if these send to the queue of the coroutine."""
    home = handed(tree, call)
    if home is None or frame(tree, home) is not owner or home.asynchronous or len(references(tree, home)) != 1:
        return set()
    parts = carried(tree, call)
    sent = {name.value for name in channels(tree, parts)} | {
        part.name.value for part in parts if isinstance(part, cst.FunctionDef) and part is not home
    }
    if not only_sends(home, sent):
        return set()
    inner = [
        node for node in subtree(home.body) if isinstance(node, (cst.For, cst.While)) and frame(tree, node) is home
    ]
    outer = [node for node in inner if not any(up in inner for up in tree.above(node))]
    return {
        node
        for node in outer
        if node.orelse is None
        and isinstance(node.body, cst.IndentedBlock)
        and sent & {name.value for name in names(tree, node.body)}
    }


def only_sends(home: cst.FunctionDef, sent: set[str]) -> bool:
    """Whether each statement sends, logs, or works on names of the function alone."""
    for node in subtree(home.body):
        if isinstance(node, (cst.AugAssign, cst.With, cst.Del, cst.Global, cst.Nonlocal, cst.Yield, cst.Await)):
            return False
        if isinstance(node, cst.AssignTarget) and not isinstance(node.target, (cst.Name, cst.Tuple)):
            return False
        if isinstance(node, cst.Expr) and isinstance(node.value, cst.Call):
            used = {part.value for part in subtree(node) if isinstance(part, cst.Name)}
            if not used & (sent | LOGS):
                return False
    return True


def handed(tree: Tree, call: cst.Call) -> cst.FunctionDef | None:
    index = 1 if verb(call) == "run_in_executor" else 0
    value = call.args[index].value if len(call.args) > index else None
    if not isinstance(value, cst.Name) or any(arg.star for arg in call.args[: index + 1]):
        return None
    homes = [getattr(item, "node", None) for item in tree.scopes[value][value.value]]
    return homes[0] if len(homes) == 1 and isinstance(homes[0], cst.FunctionDef) else None
