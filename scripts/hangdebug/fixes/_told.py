"""Executors that are known less well: by an annotation, or as a class with an exit of its own. Reported, not mended."""

from __future__ import annotations

import libcst as cst

from hangdebug.fixes._scopes import OWN_EXIT, Tree, dotted, executor_class, qualified, subtree

BASE = frozenset(("concurrent.futures.Executor", "concurrent.futures._base.Executor"))


def by_annotation(tree: Tree, node: cst.BaseExpression) -> str:
    """The refusal for a parameter that says it is an executor, "" for anything else."""
    param = only(tree, node)
    param = tree.parents.get(param) if isinstance(param, cst.Name) else param
    kind = param.annotation.annotation if isinstance(param, cst.Param) and param.annotation else None
    if kind is None or not (executor_class(tree, kind) or BASE & qualified(tree, kind)):
        return ""
    return f"`{node.value}` is a parameter, and whether its caller counts on this wait is not known here"


def only(tree: Tree, name: cst.CSTNode) -> cst.CSTNode | None:
    """The one place that binds the name, None where there are more or none."""
    scope = tree.scopes.get(name) if isinstance(name, cst.Name) else None
    found = [getattr(item, "node", None) for item in scope[name.value]] if scope else []
    return found[0] if len(found) == 1 else None


def own_exit(tree: Tree, made: cst.CSTNode) -> str:
    """The refusal for a call of a class in the file whose own `__exit__` calls that of the executor, else ""."""
    home = only(tree, made.func) if isinstance(made, cst.Call) else None
    if not isinstance(home, cst.ClassDef) or len(home.bases) != 1 or not executor_class(tree, home.bases[0].value):
        return ""
    own = {item.name.value: item for item in home.body.body if isinstance(item, cst.FunctionDef)}
    if not set(own) & OWN_EXIT <= {"__enter__", "__exit__"} or "__exit__" not in own:
        return ""
    for node in subtree(own["__exit__"]):
        call = node.func.value if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) else None
        if isinstance(call, cst.Call) and dotted(call.func) == "super" and node.func.attr.value == "__exit__":
            return f"its class has an exit of its own, which joins in line {tree.line(node)}: mend it there"
    return ""
