"""What counts as waiting for work: an await that always runs, for all of it, before the executor's exit."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import field
from typing import Union

from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.bindings import COMPREHENSIONS, walk
from hangdebug.repair.code.file import File, dotted, is_none

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]
Exit = Union[ast.With, ast.Call, ast.AsyncFunctionDef]
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOPS = (ast.For, ast.AsyncFor, ast.While)
FOR = (ast.For, ast.AsyncFor)
WITHS = (ast.With, ast.AsyncWith)
TRIES = tuple(getattr(ast, name) for name in ("Try", "TryStar") if hasattr(ast, name))
BRANCHES = tuple(getattr(ast, name) for name in ("ExceptHandler", "match_case") if hasattr(ast, name))
GROUPS = frozenset("TaskGroup create_task_group open_nursery".split())
LIMITS = frozenset("timeout timeout_at move_on_after move_on_at fail_after fail_at".split())
SILENT = frozenset(("move_on_after", "move_on_at"))


@dataclass(frozen=True)
class Judgement:
    """`loose`: work that only the exit waits for; `waits`: calls that block the loop. Line and words each.

    `unwaited`: lines of work that need not be waited for, since the coroutine awaits what it sends.
    """

    loose: tuple[tuple[int, str], ...] = ()
    waits: tuple[tuple[int, str], ...] = ()
    unwaited: tuple[int, ...] = ()


@dataclass(frozen=True)
class Work:
    """One hand-over. `kind` is "concurrent" (a future), "results" (of map), "awaitable" or "function"."""

    node: ast.expr
    kind: str


@dataclass
class Trail:
    """What is known while the work of one executor is followed. The exit stands at the offset `end`."""

    file: File
    owner: ast.AsyncFunctionDef
    exit: Exit
    end: int
    seen: set[object] = field(default_factory=set)  # each (node, Work) that was walked, each function
    awaited: dict[Work, int] = field(default_factory=dict)  # where the first await of it stands
    joined: dict[tuple[Work, ast.expr], str] = field(default_factory=dict)  # words, where a thread waits for it
    blocked: dict[tuple[Work, ast.expr], str] = field(default_factory=dict)  # the same, for what it sends
    tested: set[Work] = field(default_factory=set)  # it is asked .done() before
    notes: dict[Work, str] = field(default_factory=dict)  # what became of it instead
    kept: list[tuple[int, str]] = field(default_factory=list)  # line and words, where the executor itself is kept
    inner: list[Judgement] = field(default_factory=list)  # on the coroutines that it is handed to

    def note(self, work: Work, words: str) -> None:
        """What became of the work, unless something is known of it already."""
        self.notes.setdefault(work, words)


def runs_in_time(trail: Trail, node: ast.AST, work: Work) -> bool:
    """Whether `node` runs in the coroutine itself or in the nested function that starts the work."""
    home = trail.file.frame(node)
    return home is trail.owner or home in trail.file.above(work.node)


def nodes_around(trail: Trail, work: Work) -> set[ast.AST]:
    return {work.node, *trail.file.above(work.node)}


def note_wait(trail: Trail, work: Work, node: ast.AST) -> None:
    """`node` waits for the work without blocking, if it always runs, waits for all of it, and in time."""
    file, within = trail.file, nodes_around(trail, work)
    start, line, inside = file.start(node), file.line(node), file.frame(node) is trail.owner
    drawn = any(isinstance(up, COMPREHENSIONS) for up in within & set(file.above(node)))  # [await job for job in jobs]
    earlier = inside and node not in within and start < file.start(work.node) and not drawn
    if earlier and not within & loops_around(trail, node):
        return  # it awaits what an earlier statement or an earlier round had started
    if start >= trail.end and inside:
        trail.notes[work] = f"line {line} reads it only after the exit"
    elif on_one_branch(trail, work, node):
        trail.note(work, f"line {line} waits for it on one branch only")
    elif waits_partly(trail, node) or gives_up(trail, node, work):
        trail.note(work, f"line {line} may stop waiting before it is done")
    elif leaves_loop(trail, node, work):
        trail.note(work, f"the loop of line {line} may be left before all of it is awaited")
    else:
        position = start if inside else file.start(work.node)
        trail.awaited[work] = min(position, trail.awaited.get(work, position))


def on_one_branch(trail: Trail, work: Work, node: ast.AST) -> bool:
    """Whether a branch, taken or not after the work was started, decides if `node` runs."""
    within, inner = nodes_around(trail, work), node
    for parent in trail.file.above(node):
        otherwise = [] if isinstance(parent, TRIES) else getattr(parent, "orelse", [])
        if inner in within:
            return False
        if isinstance(otherwise, list) and inner in otherwise and not within.intersection(otherwise):
            return True
        if parent in within:
            return False
        if inner is not getattr(parent, "test", None):
            decides = isinstance(parent, ast.If) and (parent.test, work) not in trail.seen  # not `if jobs: await ...`
            if decides or isinstance(parent, (*BRANCHES, ast.IfExp, ast.BoolOp)):
                return True
        inner = parent
    return False


def waits_partly(trail: Trail, node: ast.AST) -> bool:
    call = node.value if isinstance(node, ast.Await) else None
    if not isinstance(call, ast.Call) or verb_of(call) != "wait":
        return False
    limits = [each.value for each in call.keywords if each.arg in ("timeout", "return_when")]
    early = any(not is_no_limit(each) for each in limits)
    return early and not any(isinstance(loop, ast.While) for loop in loops_around(trail, node))


def is_no_limit(limit: ast.expr) -> bool:
    """Whether what a `wait()` is limited by is no limit."""
    return is_none(limit) or dotted(limit).split(".")[-1] == "ALL_COMPLETED"


def gives_up(trail: Trail, node: ast.AST, work: Work) -> bool:
    """Whether a timeout or the first failure may end the wait, and the block goes on behind it.

    try: await asyncio.wait_for(job, 5)
    except TimeoutError: pass               the work runs on, and only the exit waits for it
    """
    file, inner, short = trail.file, node, ends_early(node)
    outside, within = {trail.exit, *file.above(trail.exit)}, nodes_around(trail, work)
    for up in file.above(node):
        if up in outside:
            return False
        if isinstance(up, WITHS):
            limits = {
                verb_of(item.context_expr) for item in up.items if isinstance(item.context_expr, ast.Call)
            } & LIMITS
            if limits & SILENT:
                return True
            short = short or bool(limits)
        if isinstance(up, FOR) and not (work.node in file.above(node) or up in within):
            short = True  # the first that fails ends a loop that awaits one after the other
        if isinstance(up, TRIES) and inner in up.body and short and any(map(goes_on, up.handlers)):
            return not any(isinstance(loop, ast.While) for loop in loops_around(trail, up))
        inner = up
    return False


def ends_early(node: ast.AST) -> bool:
    """Whether what is awaited may end by itself before all of it is done."""
    call = node.value if isinstance(node, ast.Await) else None
    if not isinstance(call, ast.Call):
        return False
    quiet = any(each.arg == "return_exceptions" and is_true(each.value) for each in call.keywords)
    several = len(call.args) > 1 or any(isinstance(each, ast.Starred) for each in call.args)
    return verb_of(call) == "wait_for" or (verb_of(call) == "gather" and several and not quiet)


def is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def goes_on(handler: ast.ExceptHandler) -> bool:
    """Whether the code behind the `try` runs after it."""
    return not isinstance(handler.body[-1], (ast.Raise, ast.Return))


def leaves_loop(trail: Trail, node: ast.AST, work: Work) -> bool:
    """Whether a loop that awaits one piece of work after the other has a `break` or a `return`."""
    file, within = trail.file, nodes_around(trail, work)
    for loop in loops_around(trail, node) - within:
        for each in (part for line in loop.body for part in walk(line)) if isinstance(loop, FOR) else ():
            nearest = next((up for up in file.above(each) if isinstance(up, LOOPS)), None)
            ends = isinstance(each, ast.Return) or (isinstance(each, ast.Break) and nearest is loop)
            if ends and file.frame(each) is file.frame(loop):
                return True
    return False


def leaves_between(trail: Trail, work: Work, awaited: int) -> int:
    """The line of a `return` or `raise` between the hand-over and the await, 0 where there is none."""
    file, within = trail.file, nodes_around(trail, work)
    block = trail.exit if trail.exit in within and isinstance(trail.exit, ast.With) else trail.owner
    for each in (part for line in block.body for part in walk(line)):
        leaves = isinstance(each, (ast.Return, ast.Raise)) and each not in within and file.frame(each) is trail.owner
        if leaves and file.end(work.node) < file.start(each) and file.end(each) < awaited:
            return file.line(each)
    return 0


def loops_around(trail: Trail, node: ast.AST) -> set[ast.For | ast.AsyncFor | ast.While]:
    """The loops that repeat `node` before the exit is reached."""
    outside = set(trail.file.above(trail.exit))
    return {up for up in trail.file.above(node) if isinstance(up, LOOPS) and up not in outside}


def blocking_joins(trail: Trail) -> Iterator[tuple[int, str]]:
    """The joins on the loop's thread, without those of work known to be done by then."""
    for (work, node), words in {**trail.joined, **trail.blocked}.items():
        done = work in trail.tested or trail.awaited.get(work, trail.end) < trail.file.start(node)
        if not done and trail.file.frame(node) is trail.owner:
            yield trail.file.line(node), words


def is_group(trail: Trail, name: ast.Name) -> bool:
    """Whether `name` is a task group that is left before the executor's exit, so it has waited by then."""
    file, outside = trail.file, set(trail.file.above(trail.exit))
    found = [file.scopes.parent(item.node) for item in file.lookup(name, name.id)[1]]
    return bool(found) and all(
        isinstance(item, ast.withitem)
        and isinstance(item.context_expr, ast.Call)
        and verb_of(item.context_expr) in GROUPS
        and file.parent(item) not in outside
        for item in found
    )


def verb_of(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)
