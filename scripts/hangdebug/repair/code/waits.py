"""What counts as waiting for work: an await that always runs, for all of it, before the executor's exit."""

from __future__ import annotations

from dataclasses import dataclass, field

import libcst as cst

from hangdebug.repair.code.scopes import Tree, assigned, dotted, frame, subtree

GROUPS = frozenset("TaskGroup create_task_group open_nursery".split())
LIMITS = frozenset("timeout timeout_at move_on_after move_on_at fail_after fail_at".split())
SILENT = frozenset(("move_on_after", "move_on_at"))
DRAWN = (cst.ListComp, cst.SetComp, cst.DictComp, cst.GeneratorExp)
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
    drawn = any(isinstance(up, DRAWN) and up in around for up in trail.tree.above(node))  # [await job for job in jobs]
    if home is trail.owner and node not in around and start < trail.tree.start(work.node) and not drawn:
        if not around & again(trail, node):
            return  # it awaits what an earlier statement or an earlier round had started
    if start >= trail.end and home is trail.owner:
        trail.notes[work] = f"line {start[0]} reads it only after the exit"
    elif sometimes(trail, work, node):
        trail.notes.setdefault(work, f"line {start[0]} waits for it on one branch only")
    elif partly(trail, node) or gives_up(trail, node, work):
        trail.notes.setdefault(work, f"line {start[0]} may stop waiting before it is done")
    elif leaves_early(trail, node, work):
        trail.notes.setdefault(work, f"the loop of line {start[0]} may be left before all of it is awaited")
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


def gives_up(trail: Trail, node: cst.CSTNode, work: Work) -> bool:
    """Whether a timeout or the first failure may end the wait, and the block goes on behind it.

    try: await asyncio.wait_for(job, 5)
    except TimeoutError: pass               the work runs on, and only the exit waits for it
    """
    around, inner, short = set(trail.tree.above(trail.exit)), node, early(node)
    for up in trail.tree.above(node):
        if up in around or up is trail.exit:
            return False
        if isinstance(up, cst.With) and any(
            verb(item.item) in LIMITS for item in up.items if isinstance(item.item, cst.Call)
        ):
            short = True
            if any(verb(item.item) in SILENT for item in up.items if isinstance(item.item, cst.Call)):
                return True
        if (
            isinstance(up, cst.For)
            and work.node not in trail.tree.above(node)
            and up not in trail.tree.above(work.node)
        ):
            short = True  # the first that fails ends a loop that awaits one after the other
        if isinstance(up, (cst.Try, cst.TryStar)) and inner is up.body and short and any(map(goes_on, up.handlers)):
            return not any(isinstance(loop, cst.While) for loop in again(trail, up))
        inner = up
    return False


def early(node: cst.CSTNode) -> bool:
    """Whether what is awaited may end by itself before all of it is done."""
    call = node.expression if isinstance(node, cst.Await) else None
    if not isinstance(call, cst.Call):
        return False
    quiet = any(
        arg.keyword and arg.keyword.value == "return_exceptions" and dotted(arg.value) == "True" for arg in call.args
    )
    several = len(call.args) > 1 or any(arg.star for arg in call.args)
    return verb(call) == "wait_for" or verb(call) == "gather" and several and not quiet


def goes_on(handler: cst.ExceptHandler) -> bool:
    """Whether the code behind the `try` runs after it."""
    last = handler.body.body[-1:]
    ends = last[0].body[-1:] if last and isinstance(last[0], cst.SimpleStatementLine) else []
    return not (ends and isinstance(ends[0], (cst.Raise, cst.Return)))


def leaves_early(trail: Trail, node: cst.CSTNode, work: Work) -> bool:
    """Whether a loop that awaits one piece of work after the other has a `break` or a `return`."""
    loops = [up for up in again(trail, node) if isinstance(up, cst.For) and up not in trail.tree.above(work.node)]
    for loop in loops:
        for each in subtree(loop.body):
            nearest = next((up for up in trail.tree.above(each) if isinstance(up, (cst.For, cst.While))), None)
            inside = frame(trail.tree, each) is frame(trail.tree, loop)
            if inside and (isinstance(each, cst.Return) or isinstance(each, cst.Break) and nearest is loop):
                return True
    return False


def leaves_between(trail: Trail, work: Work, awaited: tuple[int, int]) -> int:
    """The line of a `return` or `raise` between the hand-over and the await, 0 where there is none."""
    start, inside = trail.tree.end(work.node), set(trail.tree.above(work.node))
    around = next((up for up in trail.tree.above(work.node) if up is trail.exit or up is trail.owner), trail.owner)
    for each in subtree(around.body):
        if isinstance(each, (cst.Return, cst.Raise)) and each not in inside and frame(trail.tree, each) is trail.owner:
            if start < trail.tree.start(each) and trail.tree.end(each) < awaited:
                return trail.tree.line(each)
    return 0


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
        (trail.tree.line(node), words)
        for (work, node), words in {**trail.joined, **trail.blocked}.items()
        if frame(trail.tree, node) is trail.owner
        and work not in trail.tested
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
        isinstance(maker, cst.Call) and verb(maker) in GROUPS and not around & set(list(trail.tree.above(maker))[:2])
        for maker in makers
    )


def verb(node: cst.Call) -> str:
    return node.func.attr.value if isinstance(node.func, cst.Attribute) else dotted(node.func)
