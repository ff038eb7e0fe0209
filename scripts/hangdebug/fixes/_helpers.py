"""Find the coroutine of the same file that a call hands an executor to, and the parameter that takes it."""

from __future__ import annotations

import libcst as cst

from hangdebug.fixes._scopes import Tree, dotted, frame


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
    rebound = [node for node in tree.parents if isinstance(node, cst.AssignTarget) and dotted(node.target) in
               (f"self.{name}", f"cls.{name}", name) and set(family) & set(tree.above(node))]
    methods = [node for each in family for node in each.body.body if isinstance(node, cst.FunctionDef)]
    return rebound + [node for node in methods if node.name.value == name]


def inherits(node: cst.CSTNode, home: cst.ClassDef) -> bool:
    return isinstance(node, cst.ClassDef) and any(dotted(arg.value) == home.name.value for arg in node.bases)


def parameter(function: cst.FunctionDef, call: cst.Call, arg: cst.Arg, skip: bool) -> cst.Name | None:
    params = function.params
    if arg.keyword:
        named = [*params.params, *params.kwonly_params]
        return next((item.name for item in named if item.name.value == arg.keyword.value), None)
    before = call.args[:call.args.index(arg)]
    order = [*params.posonly_params, *params.params]
    index = len(before) + skip
    clear = not arg.star and not any(other.star or other.keyword for other in before)
    return order[index].name if clear and index < len(order) else None
