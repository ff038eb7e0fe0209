"""Tell cheaply whether libcst has to look at a file for executors: whether async code leaves anything that may be one."""

from __future__ import annotations

import ast

LEAVES = ("shutdown", "enter_context")
KINDS = ("ThreadPoolExecutor", "ProcessPoolExecutor")


def leaves_executor(tree: ast.Module) -> bool:
    """False only where `nonblocking_executor` finds nothing."""
    named = makers(tree)
    todo: list = [(tree, False)]
    while todo:
        node, running = todo.pop()
        if running and leaves(node, named):
            return True
        for field, value in ast.iter_fields(node):
            inner = running
            if field == "body" and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
                inner = isinstance(node, ast.AsyncFunctionDef)
            for child in value if isinstance(value, list) else (value,):
                if isinstance(child, ast.AST):
                    todo.append((child, inner))
    return False


def makers(tree: ast.Module) -> set[str]:
    """The names that may make an executor: imported as one, or defined from one in the file."""
    named = set(KINDS)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            named |= {item.asname for item in node.names if item.asname and item.name.split(".")[-1] in KINDS}
        elif isinstance(node, ast.ClassDef) and node.bases:
            named.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, (ast.Name, ast.Attribute)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            named |= {each.id for each in targets if isinstance(each, ast.Name)}
    return named


def leaves(node: ast.AST, named: set[str]) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr in LEAVES
    for item in node.items if isinstance(node, ast.With) else ():
        value = item.context_expr.value if isinstance(item.context_expr, ast.NamedExpr) else item.context_expr
        if isinstance(value, (ast.Name, ast.Attribute)) or isinstance(value, ast.Call) and last(value.func) in named:
            return True
    return False


def last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
