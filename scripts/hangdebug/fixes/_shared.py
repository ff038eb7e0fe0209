"""Judge an executor that outlives the function which shuts it down: a module's, or one kept in an attribute.

    def log(self, line):
        return self.pool.submit(write, line)     nobody need wait for what it returns
    async def close(self):
        self.pool.shutdown()                     so this wait completes it

Each function of the file that hands it work is judged by itself. A future that it returns is waited for only if every
caller in the file waits for it.
"""

from __future__ import annotations

from typing import Iterator

import libcst as cst

from hangdebug.fixes._follow import follow
from hangdebug.fixes._helpers import inherits
from hangdebug.fixes._lifespans import LIFESPAN
from hangdebug.fixes._scopes import Tree, dotted, frame, references, written
from hangdebug.fixes._waits import Trail, Work
from hangdebug.fixes._work import RETURNED, walk

HANDS = ("submit", "map")


def kept_work(tree: Tree, owner: cst.FunctionDef, node: cst.Call, receiver: cst.BaseExpression) -> str:
    """The refusal for the shutdown `node` of the coroutine `owner`, "" where all work is waited for elsewhere."""
    homes: dict = {}
    for use in uses(tree, receiver):
        homes.setdefault(function(tree, use), []).append(use)
    loose = []
    for home, found in homes.items():
        if home is None:
            loose += [(tree.line(use), "it is started where the file is loaded") for use in found if hands(tree, use)]
            continue
        verdict = follow(tree, home, found, node if home is owner else home)
        loose += [(line, words) for line, words in verdict.loose if words != RETURNED or not awaited(tree, home)]
    for line, words in sorted(loose):
        return f"line {line} may leave work in it that only this wait completes: {words}; {LIFESPAN}"
    return ""


def uses(tree: Tree, receiver: cst.BaseExpression) -> list[cst.CSTNode]:
    """The places of the file that read the executor, or may: `audit.pool.submit` is such a place of `self.pool`."""
    if isinstance(receiver, cst.Name):
        return references(tree, receiver)
    return [node for node in tree.parents if isinstance(node, cst.Attribute) and not bound(tree, node)
            and node.attr.value == receiver.attr.value and same(tree, node, receiver)]


def bound(tree: Tree, node: cst.CSTNode) -> bool:
    """Whether it is assigned to, also as one of several."""
    while isinstance(tree.parents[node], (cst.Element, cst.Tuple, cst.List)):
        node = tree.parents[node]
    return written(tree, node)


def same(tree: Tree, node: cst.Attribute, receiver: cst.Attribute) -> bool:
    if dotted(node) != dotted(receiver):
        return hands(tree, node) and dotted(node.value) not in ("self", "cls")
    if dotted(node.value) not in ("self", "cls"):
        return True
    one, other = home(tree, node), home(tree, receiver)
    own = one is not other and any(
        isinstance(each, cst.Attribute) and dotted(each) == dotted(node) and written(tree, each)
        and home(tree, each) is one for each in tree.parents)
    return not own or other is not None and (inherits(one, other) or inherits(other, one))


def hands(tree: Tree, use: cst.CSTNode) -> bool:
    parent = tree.parents[use]
    return isinstance(parent, cst.Attribute) and parent.attr.value in HANDS


def home(tree: Tree, node: cst.CSTNode) -> cst.ClassDef | None:
    return next((up for up in tree.above(node) if isinstance(up, cst.ClassDef)), None)


def function(tree: Tree, node: cst.CSTNode) -> cst.FunctionDef | None:
    found = frame(tree, node)
    while isinstance(found, cst.Lambda):
        found = frame(tree, found)
    return found if isinstance(found, cst.FunctionDef) else None


def awaited(tree: Tree, home: cst.FunctionDef) -> bool:
    """Whether the file calls the function, and each place that names it waits for what it returns."""
    named = list(mentions(tree, home))
    return bool(named) and home.asynchronous is None and all(waits(tree, use) for use in named)


def mentions(tree: Tree, home: cst.FunctionDef) -> Iterator[cst.CSTNode]:
    name = home.name.value
    for node in tree.parents:
        parent = tree.parents[node]
        if isinstance(node, cst.Attribute) and node.attr.value == name:
            yield node
        elif isinstance(node, cst.Name) and node.value == name and getattr(parent, "name", None) is not node:
            if node not in (getattr(parent, "attr", None), getattr(parent, "keyword", None)):
                yield node


def waits(tree: Tree, use: cst.CSTNode) -> bool:
    """Whether the use is a call whose result its own function waits for, in any case."""
    call, caller = tree.parents[use], function(tree, use)
    if caller is None or not isinstance(call, cst.Call) or call.func is not use:
        return False
    trail, work = Trail(tree, caller, caller, tree.end(caller)), Work(call, "concurrent")
    walk(trail, call, work)
    return work not in trail.notes and (work in trail.awaited or any(other == work for other, _ in trail.joined))
