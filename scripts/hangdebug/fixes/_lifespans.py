"""Coroutines that run when the server starts and stops: there a join is meant, while nothing is served."""

from __future__ import annotations

import libcst as cst

from hangdebug.fixes._scopes import Tree, coroutine, dotted, qualified, references

LIFESPAN = "follow snippets/lifespan_executor.py"


def lifespan(tree: Tree, owner: cst.FunctionDef, depth: int = 3) -> str:
    """The refusal for a function that runs when the server starts and stops, or is called by one; else ""."""
    for item in owner.decorators:
        call = item.decorator.func if isinstance(item.decorator, cst.Call) else item.decorator
        manager = "contextlib.asynccontextmanager" in qualified(tree, call)
        if dotted(call).endswith(".on_event") or (manager and serves_app(tree, owner)):
            return f"a lifespan waits for its work on purpose, while nothing is served; {LIFESPAN}"
    around = {coroutine(tree, use) for use in references(tree, owner)} - {None, owner} if depth else ()
    return next(filter(None, (lifespan(tree, caller, depth - 1) for caller in around)), "")


def serves_app(tree: Tree, owner: cst.FunctionDef) -> bool:
    name, params = owner.name.value, owner.params.params
    passed = any(
        isinstance(node, cst.Arg) and node.keyword and node.keyword.value in ("lifespan", "lifespan_context")
        and dotted(node.value) == name for node in tree.parents
    )
    return passed or "lifespan" in name or bool(params and params[0].name.value in ("app", "_app"))
