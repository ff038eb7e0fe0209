"""What counts as waiting for work: an await that always runs, for all of it, before the executor's exit."""

from __future__ import annotations

from dataclasses import dataclass, field

import libcst as cst

from hangdebug.fixes._scopes import Tree, assigned, dotted, frame

GROUPS = frozenset("TaskGroup create_task_group open_nursery".split())
BRANCHES = (cst.ExceptHandler, cst.ExceptStarHandler, cst.MatchCase)


@dataclass(frozen=True)
class Verdict:
    """`loose`: work that only the exit waits for; `waits`: calls that block the loop. Line and words each.

    `unwaited`: lines of work that need not be waited for, since the coroutine awaits what it sends.
    """

    loose: tuple[tuple[int, str], ...]
    waits: tuple[tuple[int, str], ...]
    unwaited: tuple[int, ...] = ()


@dataclass(frozen=True)
class Work:
    """One hand-over. `kind` is "concurrent" (a future), "results" (of map), "awaitable" or "function"."""

    node: cst.CSTNode
    kind: str


@dataclass
class Trail:
    """What is known while the work of one executor is followed. The exit stands at `end`."""

    tree: Tree
    owner: cst.FunctionDef
    exit: cst.CSTNode
    end: tuple[int, int]
    seen: set = field(default_factory=set)
    awaited: dict = field(default_factory=dict)  # Work -> position of the first await
    joined: dict = field(default_factory=dict)  # (Work, node) -> words, where a thread waits for it
    blocked: dict = field(default_factory=dict)  # the same, where the wait ends before the work may
    tested: set = field(default_factory=set)  # Work that is asked .done() before
    notes: dict = field(default_factory=dict)  # Work -> what became of it instead
    held: list = field(default_factory=list)  # (line, words), where the executor itself is kept
    inner: list = field(default_factory=list)  # the verdicts on coroutines that it is handed to


def counts(trail: Trail, node: cst.CSTNode, work: Work) -> bool:
    """Whether `node` runs in the coroutine itself or in the nested function that starts the work."""
    home = frame(trail.tree, node)
    return home is trail.owner or home in trail.tree.above(work.node)


def settle(trail: Trail, work: Work, node: cst.CSTNode) -> None:
    """`node` waits for the work without blocking, if it always runs, waits for all of it, and in time."""
    start, home = trail.tree.start(node), frame(trail.tree, node)
    around = {work.node, *trail.tree.above(work.node)}
    if home is trail.owner and node not in around and start < trail.tree.start(work.node):
        if not around & again(trail, node):
            return  # it awaits what an earlier statement or an earlier round had started
    if start >= trail.end and home is trail.owner:
        trail.notes[work] = f"line {start[0]} reads it only after the exit"
    elif sometimes(trail, work, node):
        trail.notes.setdefault(work, f"line {start[0]} waits for it on one branch only")
    elif partly(trail, node):
        trail.notes.setdefault(work, f"line {start[0]} may stop waiting before it is done")
    else:
        position = start if home is trail.owner else trail.tree.start(work.node)
        trail.awaited[work] = min(position, trail.awaited.get(work, position))


def sometimes(trail: Trail, work: Work, node: cst.CSTNode) -> bool:
    """Whether a branch, taken or not after the work was started, decides if `node` runs."""
    around, inner = {work.node, *trail.tree.above(work.node)}, node
    for parent in trail.tree.above(node):
        if inner in around or parent in around:
            return False
        if inner is getattr(parent, "test", None):
            inner = parent
            continue
        if isinstance(parent, BRANCHES) or (isinstance(parent, cst.If) and not guards(trail, parent, work)):
            return True
        if isinstance(parent, cst.Else) and not isinstance(trail.tree.parents[parent], cst.Try):
            return True
        if isinstance(parent, (cst.IfExp, cst.BooleanOperation)):
            return True
        inner = parent
    return False


def guards(trail: Trail, branch: cst.If, work: Work) -> bool:
    """`if futures: await gather(*futures)`: the branch asks only whether there is work."""
    return (branch.test, work) in trail.seen


def partly(trail: Trail, node: cst.CSTNode) -> bool:
    inner = node.expression if isinstance(node, cst.Await) else None
    if not isinstance(inner, cst.Call) or verb(inner) != "wait":
        return False
    limits = [arg for arg in inner.args if arg.keyword and arg.keyword.value in ("timeout", "return_when")]
    early = any(not whole(arg) for arg in limits)
    return early and not any(isinstance(loop, cst.While) for loop in again(trail, node))


def again(trail: Trail, node: cst.CSTNode) -> set:
    """The loops that repeat `node` before the exit is reached."""
    around = set(trail.tree.above(trail.exit))
    return {up for up in trail.tree.above(node) if isinstance(up, (cst.For, cst.While)) and up not in around}


def whole(arg: cst.Arg) -> bool:
    return dotted(arg.value).split(".")[-1] in ("ALL_COMPLETED", "None")


def join(trail: Trail, work: Work, node: cst.CSTNode, words: str) -> None:
    trail.joined[work, node] = words


def blocking(trail: Trail) -> list[tuple[int, str]]:
    """The joins on the loop's thread, without those of work known to be done by then."""
    return [
        (trail.tree.line(node), words) for (work, node), words in {**trail.joined, **trail.blocked}.items()
        if frame(trail.tree, node) is trail.owner and work not in trail.tested
        and not trail.awaited.get(work, trail.end) < trail.tree.start(node)
    ]


def waits_inside(trail: Trail, use: cst.CSTNode) -> bool:
    named = trail.tree.scopes[use][use.value] if isinstance(use, cst.Name) else ()
    homes = {getattr(item, "node", None) for item in named}
    return any(homes & set(trail.tree.above(node)) for _, node in trail.joined)


def is_group(trail: Trail, name: cst.Name) -> bool:
    """Whether `name` is a task group that is left before the executor's exit, so it has waited by then."""
    nodes = [getattr(item, "node", name) for item in trail.tree.scopes[name][name.value]]
    around, makers = set(trail.tree.above(trail.exit)), [assigned(trail.tree, node) for node in nodes]
    return bool(makers) and all(
        isinstance(maker, cst.Call) and verb(maker) in GROUPS
        and not around & set(list(trail.tree.above(maker))[:2]) for maker in makers
    )


def verb(node: cst.Call) -> str:
    return node.func.attr.value if isinstance(node.func, cst.Attribute) else dotted(node.func)
