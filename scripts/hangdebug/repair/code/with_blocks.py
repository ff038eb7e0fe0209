"""The edits that leave an executor without waiting: a `with` becomes a try/finally, a shutdown no longer waits.

    with open(path) as log, T() as pool, lock:        with open(path) as log:
        work(pool)                                        pool = T()
                                                          try:
                                                              with lock:
                                                                  work(pool)
                                                          finally:
                                                              pool.shutdown(wait=False, cancel_futures=True)

The items are entered and left in the same order. What stands in the block stays as it is, further to the right where
it now stands deeper.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.file import File
from hangdebug.repair.code.layout import project_of
from hangdebug.repair.model import Edit, apply

CALM, CALM_38 = "shutdown(wait=False, cancel_futures=True)", "shutdown(wait=False)"


@dataclass(frozen=True)
class Leaving:
    """How an executor is left: its name, the event that is set first or "", the lines that leave it.

    A line that stands a step deeper than the one before it begins with a tab.
    """

    name: str
    event: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The blocks that are taken apart: for each the index of an item, and how its executor is left.

    `calls` are the calls that are replaced beside them.
    """

    file: File
    blocks: dict[ast.With, dict[int, Leaving]] = field(default_factory=dict)
    calls: list[ast.Call] = field(default_factory=list)

    def margin(self, node: ast.stmt) -> str:
        """The indentation of a statement once the blocks around it are taken apart."""
        around = [up for up in self.file.above(node) if isinstance(up, ast.With) and up in self.blocks]
        return self.file.indent(node) + "".join(map(self.deeper, around))

    def deeper(self, node: ast.With) -> str:
        """What its lines are moved to the right by."""
        return self.file.step(node) * (depth_of(node.items, self.blocks[node]) - 1)


def depth_of(items: Sequence[ast.withitem], names: Mapping[int, object]) -> int:
    """How many blocks the items become, one in the other: one for each executor, one for the others between two."""
    plain = [index for index in range(len(items)) if index not in names]
    return len(items) - len([index for index in plain if index - 1 in plain])


def take_apart(plan: Plan, node: ast.With) -> Iterator[Edit]:
    """The edits of one block; those of the blocks in it go with them."""
    file, margin, step = plan.file, plan.margin(node), plan.file.step(node)
    start, colon = file.start(node), file.colon(node)
    (_, first), *others = entering_lines(plan, node)
    rest = "".join(f"{file.newline}{margin}{step * level}{text}" for level, text in others)
    last = "".join(f"{file.newline}{margin}{step * level}{text}" for level, text in leaving_lines(plan, node))
    for comment in header_comments(file, node):
        yield Edit(file.line_start(start), file.line_start(start), f"{margin}{comment}{file.newline}")
    if node.body[0].lineno > file.line_of(colon):
        behind, end = file.line_end(colon), file.block_end(node)
        yield from (Edit(start, colon, first), Edit(behind, behind, rest), *move_right(plan, node))
    else:  # all on one line
        end = file.line_end(file.end(node))
        yield Edit(start, colon, f"{first}{rest}")
    yield Edit(end, end, last)


def entering_lines(plan: Plan, node: ast.With) -> Iterator[tuple[int, str]]:
    """The lines that enter the items, each with how deep it stands."""
    names, level, run = plan.blocks[node], 0, []
    for index, item in enumerate(node.items):
        if index not in names:
            named = f" as {plan.file.source(item.optional_vars)}" if item.optional_vars is not None else ""
            run.append(standing_alone(plan, node, item.context_expr, level) + named)
            if index + 1 in names or index + 1 == len(node.items):
                yield level, f"with {', '.join(run)}:"
                level, run = level + 1, []
            continue
        name, event = names[index].name, names[index].event
        value = item.context_expr.value if isinstance(item.context_expr, ast.NamedExpr) else item.context_expr
        if event:
            yield level, f"{event} = threading.Event()"
        if not (isinstance(value, ast.Name) and value.id == name):
            yield level, f"{name} = {standing_alone(plan, node, value, level)}"
        yield level, "try:"
        level += 1


def leaving_lines(plan: Plan, node: ast.With) -> Iterator[tuple[int, str]]:
    """The lines that leave the executors, the last one first."""
    names = plan.blocks[node]
    for index in sorted(names, reverse=True):
        leaving, level = names[index], depth_of(node.items[:index], names)
        yield level, "finally:"
        if leaving.event:
            yield level + 1, f"{leaving.event}.set()"
        for line in leaving.lines:
            yield level + 1 + line.startswith("\t"), line.lstrip("\t")


def standing_alone(plan: Plan, node: ast.With, value: ast.expr, level: int) -> str:
    """The expression, in parentheses where its line breaks need those of the `with` that it leaves."""
    file, (start, end) = plan.file, plan.file.with_parentheses(value)
    single = len(node.items) == 1 and node.items[0].optional_vars is None
    if single and not file.text[file.start(node) + len("with") : start].strip(" \t\r\n\f\\"):
        start, end = file.start(value), file.end(value)  # the parentheses around it are those of the `with`
    margin, deeper = file.indent(node), plan.margin(node)[len(file.indent(node)) :] + file.step(node) * level
    edits = [Edit(at - start, at - start, deeper) for at in line_starts(file, start, end, margin)]
    text = apply(file.text[start:end], edits)
    try:
        return text if len(ast.parse(text).body) == 1 else f"({text})"
    except SyntaxError:
        return f"({text})"


def header_comments(file: File, node: ast.With) -> list[str]:
    """The comments between the items. Those inside of an item stay in it."""
    kept = [
        file.with_parentheses(part) for item in node.items for part in (item.context_expr, item.optional_vars) if part
    ]
    return [
        text
        for at, text in file.layout.comments
        if file.start(node) < at < file.colon(node) and not any(start <= at < end for start, end in kept)
    ]


def move_right(plan: Plan, node: ast.With) -> Iterator[Edit]:
    """The lines of the block, further to the right by what it stands deeper."""
    file, deeper, inside = plan.file, plan.deeper(node), plan.file.indent(node.body[0])
    margin = len(file.indent(node))  # in front of it: an edit of the statement itself may start where that does
    replaced = [(file.start(each), file.colon(each)) for each in plan.blocks]
    replaced += [(file.start(each), file.end(each)) for each in plan.calls]
    for at in line_starts(file, file.colon(node), file.block_end(node), inside) if deeper else ():
        if not any(start < at < end for start, end in replaced):
            yield Edit(at + margin, at + margin, deeper)


def line_starts(file: File, start: int, end: int, margin: str) -> Iterator[int]:
    """Where the lines between two offsets start that have the margin; those that start inside of a string left out."""
    for line in range(file.line_of(start) + 1, file.line_of(end) + 1):
        at = file.starts[line - 1]
        if file.text.startswith(margin, at) and line not in file.layout.in_strings:
            yield at


def move_into_block(
    file: File, opener: ast.stmt, inside: ast.stmt, closer: ast.stmt | None, new: str
) -> Iterator[Edit]:
    """The lines behind `opener`, up to the statement `inside`, one step to the right; `closer` behind becomes `new`.

    Blank lines at both ends of the block go.
    """
    step, margin = file.step(opener), file.indent(opener)
    head, tail = file.line_end(file.end(opener)), file.end(inside)
    end = file.start(closer) if closer is not None else tail
    for at in line_starts(file, file.end(opener), file.line_start(end) - 1 if closer is not None else end, margin):
        if file.text[at : file.line_end(at)].strip():
            yield Edit(at, at, step)
    behind = file.text[head:tail]
    blank = len(behind) - len(behind.lstrip(" \t\r\n"))
    first = file.line_start(head + blank)
    if first > head + len(file.newline):
        yield Edit(head + len(file.newline), first, "")
    if closer is not None:
        above = file.text[:end].rstrip(" \t\r\n")
        start, stop = file.line_end(len(above)), file.line_end(file.end(closer))
        yield Edit(start, stop, f"{file.newline}{new}" if new else "")


def check_event(plan: Plan, loop: ast.For | ast.AsyncFor | ast.While, event: str) -> Edit:
    """The loop ends where the event is set."""
    file, end, inside = plan.file, plan.file.line_end(plan.file.colon(loop)), plan.margin(loop.body[0])
    step = file.step(loop)
    return Edit(end, end, f"{file.newline}{inside}if {event}.is_set():{file.newline}{inside}{step}break")


def stop_waiting(file: File, call: ast.Call) -> Edit:
    """The same call with `wait=False`, and `cancel_futures=True` unless it says something of it already."""
    opening = file.text.index("(", file.end(call.func))
    old = "" if project_of(file.name).has(9) else "wait=False"
    kept = next((file.source(each.value) for each in call.keywords if each.arg == "cancel_futures"), "True")
    return Edit(opening, file.end(call), f"({old or f'wait=False, cancel_futures={kept}'})")
