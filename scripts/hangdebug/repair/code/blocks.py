"""The edits themselves: a `with` item unfolded into try/finally, the arguments of a shutdown replaced."""

from __future__ import annotations

from typing import Mapping

import libcst as cst

from hangdebug.repair.code.scopes import subtree

FREE = cst.MaybeSentinel.DEFAULT
SIDES = ("before", "after", "before_as", "after_as")
THREAD = -1  # in place of an index: the call is awaited in a thread
CALM = "shutdown(wait=False, cancel_futures=True)"


class Edit(cst.CSTTransformer):
    """`edits` maps a `with` to {index of the item: names}, a shutdown call to anything. All else stays.

    The names of an item are that of the executor, and that of the event which its exit sets, if any. `loops` maps
    each loop that looks at such an event to its name.
    """

    def __init__(
        self,
        module: cst.Module,
        edits: Mapping[cst.CSTNode, Mapping[int, tuple[str, str]]],
        loops: Mapping[cst.CSTNode, str],
    ) -> None:
        super().__init__()
        self.module, self.edits, self.loops = module, edits, loops

    def leave_With(self, original_node: cst.With, updated_node: cst.With):  # noqa: N802, libcst's name
        names = self.edits.get(original_node)
        return cst.FlattenSentinel(unfold(self.module, updated_node, names)) if names else updated_node

    def leave_For(self, original_node: cst.For, updated_node: cst.For):  # noqa: N802
        return looking(updated_node, self.loops.get(original_node))

    def leave_While(self, original_node: cst.While, updated_node: cst.While):  # noqa: N802
        return looking(updated_node, self.loops.get(original_node))

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call):  # noqa: N802
        if original_node not in self.edits:
            return updated_node
        return in_thread(updated_node) if self.edits[original_node].get(THREAD) else unwaiting(updated_node)


def looking(loop, event: str | None):
    """The loop that ends where the event is set."""
    if event is None:
        return loop
    check = cst.ensure_type(cst.parse_statement(f"if {event}.is_set():\n    break\n"), cst.If)
    return loop.with_changes(body=loop.body.with_changes(body=[check, *loop.body.body]))


def unfold(module: cst.Module, node: cst.With, names: Mapping[int, tuple[str, str]]) -> list:
    """The statements that enter the items in the same order and leave them in the same order."""
    index = min(names)
    before, item, after = node.items[:index], node.items[index], node.items[index + 1 :]
    leading = [*node.leading_lines, *(cst.EmptyLine(comment=comment) for comment in comments(node))]
    suite, header = node.body, getattr(node.body, "header", cst.TrailingWhitespace())
    if after:
        inner = cst.With(items=[tidy(module, each) for each in after], body=bare(node.body))
        rest = {key - index - 1: name for key, name in names.items() if key > index}
        suite = cst.IndentedBlock(unfold(module, inner, rest) if rest else [inner])
    statements = block(module, item, names[index], bare(suite))
    if before:
        outer = cst.With(items=[tidy(module, each) for each in before], body=cst.IndentedBlock(statements))
        return [outer.with_changes(leading_lines=leading, body=outer.body.with_changes(header=header))]
    if statements and isinstance(statements[0], cst.SimpleStatementLine):
        first = statements[0].with_changes(leading_lines=leading, trailing_whitespace=header)
        return [first, *statements[1:]]
    body = statements[0].body.with_changes(header=header)
    return [statements[0].with_changes(leading_lines=leading, body=body)]


def block(module: cst.Module, item: cst.WithItem, names: tuple[str, str], body: cst.BaseSuite) -> list:
    """`name = EXPRESSION`, left out where the item only names an executor, and its try/finally."""
    name, event = names
    made = [cst.parse_statement(f"{event} = threading.Event()")] if event else []
    told = [cst.parse_statement(f"{event}.set()")] if event else []
    final = cst.Finally(cst.IndentedBlock([*told, cst.parse_statement(f"{name}.{CALM}")]))
    guarded = cst.Try(body=body, finalbody=final)
    value = item.item.value if isinstance(item.item, cst.NamedExpr) else item.item
    if isinstance(value, cst.Name) and value.value == name:
        return [*made, guarded]
    store = cst.Assign([cst.AssignTarget(cst.Name(name))], closed(module, value))
    return [*made, cst.SimpleStatementLine([store]), guarded]


def bare(suite: cst.BaseSuite) -> cst.BaseSuite:
    """The suite without the comment that stood behind the colon: it moves up with the header."""
    empty = cst.TrailingWhitespace()
    return suite.with_changes(header=empty) if isinstance(suite, cst.IndentedBlock) else suite


def tidy(module: cst.Module, item: cst.WithItem) -> cst.WithItem:
    """The item as it stands in a `with` without parentheses."""
    name = item.asname and cst.AsName(item.asname.name)
    return item.with_changes(item=closed(module, item.item), asname=name, comma=FREE)


def closed(module: cst.Module, value: cst.BaseExpression) -> cst.BaseExpression:
    """The expression, in parentheses where its line breaks need those of the `with` that it leaves."""
    text = module.code_for_node(value)
    try:
        cst.parse_statement(text.replace("\r\n", "\n").replace("\r", "\n"))
    except cst.ParserSyntaxError:
        return value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return value


def comments(node: cst.With) -> list[cst.Comment]:
    """Those between the items of a parenthesized `with`. Comments inside an item stay in it."""
    within = [spot for item in node.items for spot in (item.asname, item.comma)]
    spots, found = [node.lpar, *within, node.rpar], []
    for spot in spots:
        gaps = [getattr(spot, f"whitespace_{side}", None) for side in SIDES]
        found += [part for gap in gaps if gap for part in subtree(gap) if isinstance(part, cst.Comment)]
    return found


def bound(item: cst.WithItem) -> bool:
    """Whether the item makes the executor; otherwise it only names one that was made before."""
    return not isinstance(item.item, (cst.Name, cst.Attribute))


def target(item: cst.WithItem) -> cst.BaseExpression | None:
    """What the executor is called inside the block, None if nothing."""
    if item.asname:
        return item.asname.name
    if isinstance(item.item, cst.NamedExpr):
        return item.item.target
    return None if bound(item) else item.item


def fresh_name(module: cst.Module, index: int) -> str:
    """A name that the file uses nowhere, one for each item of a `with`."""
    names = {node.value for node in subtree(module) if isinstance(node, cst.Name)}
    free = (f"executor_{number}" if number else "executor" for number in range(len(names) + index + 2))
    return [name for name in free if name not in names][index]


def waits(call: cst.Call) -> bool | None:
    """What the call says of `wait`: True where it says nothing, None where only the run can tell."""
    if any(arg.star for arg in call.args):
        return None
    given = [arg for arg in call.args if arg.keyword is None or arg.keyword.value == "wait"]
    value = given[0].value if given else cst.Name("True")
    known = {"True": True, "1": True, "False": False, "0": False}
    return known.get(getattr(value, "value", ""))


def in_thread(call: cst.Call) -> cst.Await:
    """The same call, awaited in a thread."""
    given = [cst.Arg(call.func), *call.args]
    return cst.Await(
        cst.Call(
            cst.parse_expression("asyncio.to_thread"),
            [
                *(arg.with_changes(comma=cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))) for arg in given[:-1]),
                given[-1].with_changes(comma=FREE),
            ],
        )
    )


def unwaiting(call: cst.Call) -> cst.Call:
    """The same call with `wait=False`, and `cancel_futures=True` unless it says something of it already."""
    fresh = cst.ensure_type(cst.parse_expression(CALM), cst.Call)
    kept = [arg for arg in call.args if arg.keyword is not None and arg.keyword.value == "cancel_futures"]
    if kept:
        return call.with_changes(args=[fresh.args[0], kept[0].with_changes(comma=FREE)])
    return call.with_changes(args=fresh.args)
