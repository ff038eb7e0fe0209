"""A producer that feeds the coroutine's queue and is told to stop when the coroutine leaves.

    def produce():                        def produce():
        for row in rows:                      for row in rows:
                                                  if stop.is_set():
                                                      break
            send(queue.put_nowait, row)           send(queue.put_nowait, row)

Only a loop that sends to the queue gets the check: nobody takes what it would send after that. The function must do
nothing else that could be missed, such as to save what it sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import libcst as cst

from hangdebug.fixes._queues import STARTS, carried, channels, names
from hangdebug.fixes._scopes import Tree, frame, in_order, references, subtree
from hangdebug.fixes._waits import Verdict, verb


LOGS = {"log", "logger", "logging", "print"}


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
    bound = [node for node in tree.parents if isinstance(node, (cst.Param, cst.AssignTarget))
             and getattr(getattr(node, "name", getattr(node, "target", None)), "value", "") == "threading"]
    return bool(plain) and len(plain) == len(found) and not bound


def feeding(tree: Tree, owner: cst.FunctionDef, call: cst.Call) -> set:
    """The loops of the one function that the call hands over, if these send to the queue of the coroutine."""
    home = handed(tree, call)
    if home is None or frame(tree, home) is not owner or home.asynchronous or len(references(tree, home)) != 1:
        return set()
    parts = carried(tree, call)
    sent = {name.value for name in channels(tree, parts)} | {part.name.value for part in parts
                                                            if isinstance(part, cst.FunctionDef) and part is not home}
    if not only_sends(home, sent):
        return set()
    inner = [node for node in subtree(home.body) if isinstance(node, (cst.For, cst.While)) and frame(tree, node) is home]
    outer = [node for node in inner if not any(up in inner for up in tree.above(node))]
    return {node for node in outer if node.orelse is None and isinstance(node.body, cst.IndentedBlock)
            and sent & {name.value for name in names(tree, node.body)}}


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
    if not isinstance(value, cst.Name) or any(arg.star for arg in call.args[:index + 1]):
        return None
    homes = [getattr(item, "node", None) for item in tree.scopes[value][value.value]]
    return homes[0] if len(homes) == 1 and isinstance(homes[0], cst.FunctionDef) else None
