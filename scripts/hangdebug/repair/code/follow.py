"""Judge an executor: find each piece of work that async code hands to it, and who waits for that work.

Work that nothing awaits before the executor's exit is loose: only the exit waits for it. The order of
statements counts, what a branch decides does not, so an `await` under an `if` does not count for work that
was started outside of it.
"""

from __future__ import annotations

import libcst as cst

from hangdebug.repair.code.queues import thread_queues, told
from hangdebug.repair.code.scopes import Tree, dotted, frame, references
from hangdebug.repair.code.waits import Trail, Verdict, Work, blocking, counts, leaves_between, verb
from hangdebug.repair.code.work import walk

ASKS = (cst.Comparison, cst.ComparisonTarget, cst.If, cst.WithItem, cst.UnaryOperation)


def follow(
    tree: Tree,
    owner: cst.FunctionDef,
    uses: list[cst.Name],
    exit: cst.With | cst.Call | cst.FunctionDef,
    depth: int = 3,
) -> Verdict:
    """Judge the executor that `uses` read in the coroutine `owner`, for its `exit`.

    The exit is a block, a call, or the end of `owner` where that was handed the executor. `depth` is how many
    coroutines may hand it on.
    """
    end = tree.start(exit) if isinstance(exit, cst.Call) else tree.end(exit)
    trail, works = Trail(tree, owner, exit, end), []
    for use in uses:
        works += filter(None, [hand_over(trail, use, depth)])
    for work in works:
        walk(trail, work.node, work)
        works += closures(trail, work)
    loose, unwaited = list(trail.held), {line for inner in trail.inner for line in inner.unwaited}
    for work in works:
        thread_queues(trail, work)
        settled = [trail.awaited[work]] if work in trail.awaited else []
        joined = [node for other, node in trail.joined if other == work]
        settled += [tree.start(node) for node in joined if counts(trail, node, work)]
        if any(position < end for position in settled):
            line = leaves_between(trail, work, min(settled))
            loose += [(tree.line(work.node), f"line {line} may leave before it is awaited")] if line else []
            continue
        if work not in trail.notes and not joined and told(trail, work):
            unwaited.add(tree.line(work.node))
        else:
            words = trail.notes.get(work, "nothing else in the function awaits it")
            loose.append((tree.line(work.node), words))
    waits = {*blocking(trail), *(wait for inner in trail.inner for wait in inner.waits)}
    return Verdict(tuple(sorted(set(loose))), tuple(sorted(waits)), tuple(sorted(unwaited)))


def hand_over(trail: Trail, use: cst.Name, depth: int) -> Work | None:
    """The work started where the executor is read; anything that keeps the executor itself is noted."""
    tree, parent = trail.tree, trail.tree.parents[use]
    call = tree.parents[parent]
    if isinstance(parent, cst.Attribute):
        if parent.attr.value not in ("submit", "map"):
            return None
        kind = "concurrent" if parent.attr.value == "submit" else "results"
        return Work(call if isinstance(call, cst.Call) and call.func is parent else parent, kind)
    if isinstance(parent, cst.Arg) and isinstance(call, cst.Call):
        first = call.args[0] is parent or (parent.keyword is not None and parent.keyword.value == "executor")
        if verb(call) == "run_in_executor" and first:
            return Work(call, "awaitable")
        if verb(call) == "partial" and dotted(call.args[0].value).endswith(".run_in_executor"):
            return Work(call, "awaitable")
        return handed_on(trail, use, call, parent, depth)
    elif not isinstance(parent, ASKS):
        returned = isinstance(parent, cst.Return)
        words = "is returned" if returned else "gets another name or leaves the function"
        trail.held.append((tree.line(use), f"the executor {words}, so other code may use it"))
    return None


def handed_on(trail: Trail, use: cst.Name, call: cst.Call, arg: cst.Arg, depth: int) -> Work | None:
    """The call of a coroutine that itself awaits all that it does with the executor; else it is held."""
    known = helper(trail.tree, call, arg) if depth else None
    words, line = f"the executor is handed to {verb(call) or 'a call'}() there", trail.tree.line(use)
    if known is None:
        trail.held.append((line, words))
        return None
    function, taken = known
    if function is trail.owner:  # it calls itself, and is judged already
        return Work(call, "awaitable")
    verdict = follow(trail.tree, function, references(trail.tree, taken), function, depth - 1)
    for inner, why in verdict.loose:
        trail.held.append((line, f"{words}, whose line {inner} may leave work too: {why}"))
    trail.inner.append(verdict)
    return Work(call, "awaitable")


def closures(trail: Trail, work: Work) -> list[Work]:
    """The uses of the nested function that starts `work`: each is a hand-over of its own."""
    home = next((up for up in trail.tree.above(work.node) if isinstance(up, cst.FunctionDef)), None)
    if home in (None, trail.owner) or home in trail.seen or trail.owner not in trail.tree.above(home):
        return []
    trail.seen.add(home)
    return [
        Work(use, "function" if home.asynchronous is None else "awaitable")
        for use in references(trail.tree, home)
        if home not in trail.tree.above(use)
    ]


# -- the coroutine of the file that it is handed to ---------------------------------------------------------


def helper(tree: Tree, call: cst.Call, arg: cst.Arg) -> tuple[cst.FunctionDef, cst.Name] | None:
    """The one `async def` that `call` can mean and the parameter that `arg` fills, None where it is unsure.

    `name(...)` is looked up in its scope, `self.name(...)` in the class around the call and in its subclasses
    in the file. A decorated function may be anything.
    """
    found = defined(tree, call.func)
    if len(found) != 1 or not isinstance(found[0], cst.FunctionDef) or not found[0].asynchronous:
        return None
    bound = isinstance(call.func, cst.Attribute)
    taken = parameter(found[0], call, arg, skip=bound)
    plain = not found[0].decorators and bound == isinstance(frame(tree, found[0]), cst.ClassDef)
    known = taken is not None and len(tree.scopes[taken][taken.value]) == 1
    return (found[0], taken) if plain and known else None


def defined(tree: Tree, func: cst.BaseExpression) -> list:
    """Everything that binds the name of a called function, or of a method of `self`."""
    if isinstance(func, cst.Name):
        return [getattr(item, "node", None) for item in tree.scopes[func][func.value]]
    if not isinstance(func, cst.Attribute) or dotted(func.value) not in ("self", "cls"):
        return []
    home = next((up for up in tree.above(func) if isinstance(up, cst.ClassDef)), None)
    if home is None:
        return []
    name, family = func.attr.value, [home, *(node for node in tree.parents if inherits(node, home))]
    rebound = [
        node
        for node in tree.parents
        if isinstance(node, cst.AssignTarget)
        and dotted(node.target) in (f"self.{name}", f"cls.{name}", name)
        and set(family) & set(tree.above(node))
    ]
    methods = [node for each in family for node in each.body.body if isinstance(node, cst.FunctionDef)]
    return rebound + [node for node in methods if node.name.value == name]


def inherits(node: cst.CSTNode, home: cst.ClassDef) -> bool:
    return isinstance(node, cst.ClassDef) and any(dotted(arg.value) == home.name.value for arg in node.bases)


def parameter(function: cst.FunctionDef, call: cst.Call, arg: cst.Arg, skip: bool) -> cst.Name | None:
    params = function.params
    if arg.keyword:
        named = [*params.params, *params.kwonly_params]
        return next((item.name for item in named if item.name.value == arg.keyword.value), None)
    before = call.args[: call.args.index(arg)]
    order = [*params.posonly_params, *params.params]
    index = len(before) + skip
    clear = not arg.star and not any(other.star or other.keyword for other in before)
    return order[index].name if clear and index < len(order) else None
