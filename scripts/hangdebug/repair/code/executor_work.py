"""Judge an executor: find each piece of work that async code hands to it, and who waits for that work.

Work that nothing awaits before the executor's exit is loose: only the exit waits for it. The order of
statements counts, what a branch decides does not, so an `await` under an `if` does not count for work that
was started outside of it.
"""

from __future__ import annotations

import ast

from hangdebug.repair.code.file import File, dotted
from hangdebug.repair.code.producers import note_thread_queues, sends_the_end
from hangdebug.repair.code.work_path import walk
from hangdebug.repair.code.work_waits import (
    FUNCTION,
    Exit,
    Judgement,
    Trail,
    Work,
    blocking_joins,
    leaves_between,
    runs_in_time,
    verb_of,
)

ASKS = (ast.Compare, ast.If, ast.withitem, ast.UnaryOp)


def judge_executor(
    file: File, owner: ast.AsyncFunctionDef, uses: list[ast.expr], leaving: Exit, depth: int = 3
) -> Judgement:
    """Judge the executor that `uses` read in the coroutine `owner`, for its exit, `leaving`.

    The exit is a block, a call, or the end of `owner` where that was handed the executor. `depth` is how many
    coroutines may hand it on.
    """
    trail = Trail(file, owner, leaving, file.start(leaving) if isinstance(leaving, ast.Call) else file.end(leaving))
    works = [work for use in uses for work in [hand_over(trail, use, depth)] if work]
    for work in works:
        walk(trail, work.node, work)
        works += uses_of_closure(trail, work)
    loose, unwaited = list(trail.kept), {line for inner in trail.inner for line in inner.unwaited}
    for work in works:
        note_thread_queues(trail, work)
        joined = [node for other, node in trail.joined if other == work]
        settled = [file.start(node) for node in joined if runs_in_time(trail, node, work)]
        settled += [trail.awaited[work]] if work in trail.awaited else []
        line = file.line(work.node)
        if any(position < trail.end for position in settled):
            way_out = leaves_between(trail, work, min(settled))
            loose += [(line, f"line {way_out} may leave before it is awaited")] if way_out else []
        elif work not in trail.notes and not joined and sends_the_end(trail, work):
            unwaited.add(line)
        else:
            loose.append((line, trail.notes.get(work, "nothing else in the function awaits it")))
    waits = {*blocking_joins(trail), *(wait for inner in trail.inner for wait in inner.waits)}
    return Judgement(tuple(sorted(set(loose))), tuple(sorted(waits)), tuple(sorted(unwaited)))


def hand_over(trail: Trail, use: ast.expr, depth: int) -> Work | None:
    """The work started where the executor is read; anything that keeps the executor itself is noted."""
    file, parent = trail.file, trail.file.parent(use)
    outer = file.parent(parent)
    if isinstance(parent, ast.Attribute):
        if parent.attr not in ("submit", "map"):
            return None
        called = isinstance(outer, ast.Call) and outer.func is parent
        return Work(outer if called else parent, "concurrent" if parent.attr == "submit" else "results")  # type: ignore[arg-type]
    call = outer if isinstance(parent, (ast.keyword, ast.Starred)) else parent
    if isinstance(call, ast.Call):
        first = use in call.args[:1] or (isinstance(parent, ast.keyword) and parent.arg == "executor")
        bound = verb_of(call) == "partial" and bool(call.args) and dotted(call.args[0]).endswith(".run_in_executor")
        if bound or (verb_of(call) == "run_in_executor" and first):
            return Work(call, "awaitable")
        return handed_on(trail, use, call, depth)
    if not isinstance(parent, ASKS):
        words = "is returned" if isinstance(parent, ast.Return) else "gets another name or leaves the function"
        trail.kept.append((use.lineno, f"the executor {words}, so other code may use it"))
    return None


def handed_on(trail: Trail, use: ast.expr, call: ast.Call, depth: int) -> Work | None:
    """The call of a coroutine that itself awaits all that it does with the executor; else it is kept."""
    words, known = f"the executor is handed to {verb_of(call) or 'a call'}() there", None
    if depth:
        known = coroutine_called(trail.file, call, use)
    if known is None:
        trail.kept.append((use.lineno, words))
        return None
    function, taken = known
    if function is not trail.owner:  # if it calls itself, it is judged already
        judgement = judge_executor(trail.file, function, trail.file.uses(taken), function, depth - 1)
        for inner, why in judgement.loose:
            trail.kept.append((use.lineno, f"{words}, whose line {inner} may leave work too: {why}"))
        trail.inner.append(judgement)
    return Work(call, "awaitable")


def uses_of_closure(trail: Trail, work: Work) -> list[Work]:
    """The uses of the nested function that starts `work`: each is a hand-over of its own."""
    home = next((up for up in trail.file.above(work.node) if isinstance(up, FUNCTION)), None)
    if home is None or home is trail.owner or home in trail.seen or trail.owner not in trail.file.above(home):
        return []
    trail.seen.add(home)
    kind = "awaitable" if isinstance(home, ast.AsyncFunctionDef) else "function"
    return [Work(use, kind) for use in trail.file.uses(home) if home not in trail.file.above(use)]


# -- the coroutine of the file that it is handed to ---------------------------------------------------------


def coroutine_called(file: File, call: ast.Call, use: ast.expr) -> tuple[ast.AsyncFunctionDef, ast.arg] | None:
    """The one `async def` that `call` can mean and the parameter that `use` fills, None where it is unsure.

    `name(...)` is looked up in its scope, `self.name(...)` in the class around the call and in its subclasses
    in the file. A decorated function may be anything.
    """
    found = definitions_of(file, call.func)
    function = found[0] if len(found) == 1 else None
    bound = isinstance(call.func, ast.Attribute)
    if not isinstance(function, ast.AsyncFunctionDef) or function.decorator_list:
        return None
    if bound != isinstance(file.frame(function), ast.ClassDef):
        return None
    taken = parameter_filled(function, call, use, skip=bound)
    once = taken is not None and len(file.scopes.known_opened[function].names[taken.arg]) == 1
    return (function, taken) if taken is not None and once else None


def definitions_of(file: File, func: ast.expr) -> list[ast.AST]:
    """Everything that binds the name of a called function, or of a method of `self`."""
    if isinstance(func, ast.Name):
        return [item.node for item in file.lookup(func, func.id)[1]]
    home = file.home(func)
    if home is None or not isinstance(func, ast.Attribute) or dotted(func.value) not in ("self", "cls"):
        return []
    file.scopes.unread.read_word(file.scopes, home.name)
    family = [home, *(each for each in file.scopes.known_opened if inherits(each, home))]
    written = [target for target, _ in file.scopes.written(func.attr)]
    rebound = [each for each in written if dotted(each.value) in ("self", "cls") and file.home(each) in family]
    return [
        *rebound,
        *(item.node for each in family for item in file.scopes.known_opened[each].names.get(func.attr, ())),
    ]


def inherits(node: ast.AST, home: ast.ClassDef) -> bool:
    return isinstance(node, ast.ClassDef) and any(dotted(base) == home.name for base in node.bases)


def parameter_filled(function: ast.AsyncFunctionDef, call: ast.Call, use: ast.expr, skip: bool) -> ast.arg | None:
    """The parameter that the argument `use` of the call fills; with `skip` the first one is `self`."""
    args = function.args
    named = next((each.arg for each in call.keywords if each.value is use), None)
    if named is not None:
        return next((each for each in (*args.args, *args.kwonlyargs) if each.arg == named), None)
    if use not in call.args:
        return None
    order, index = [*args.posonlyargs, *args.args], call.args.index(use) + skip
    clear = not any(isinstance(each, ast.Starred) for each in call.args[: call.args.index(use)])
    return order[index] if clear and index < len(order) else None
