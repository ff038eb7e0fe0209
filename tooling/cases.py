"""Make notebooks/practice.json of the servers in tests/: each without all that names its cause.

What goes: docstrings, comments, the constants that say what is true of a server, and names of files. What stays is
the code, line by line; where the marked lines went is kept beside it.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import zoo

NAME = "service"
HEALTHY = 2  # of the servers on which nothing is wrong, beside the one of hung/
AT_HAND = {"fastapi", "requests", "uvicorn", "starlette", "anyio"}  # the demo needs these too


def practice() -> str:
    """The catalogue, in an order that tells nothing."""
    names = sorted(chosen(), key=lambda name: hashlib.sha256(name.encode()).digest())
    return json.dumps(list(map(case, names)), indent=1, ensure_ascii=False) + "\n"


def chosen() -> list[str]:
    """Every server of hung/; of the others one for each pair of state and cause that is new; some healthy ones."""
    names = list(zoo.names("hung"))
    seen = {pair(name) for name in names}
    for name in sorted(zoo.names("hung_more"), key=lambda one: (zoo.truth(one).needs is not None, one)):
        if pair(name) not in seen and "postgresql" not in (zoo.truth(name).needs or ""):  # nobody has one to lend
            names.append(name)
            seen.add(pair(name))
    quiet = [
        name
        for name in zoo.names("healthy")
        if zoo.truth(name).control and not zoo.truth(name).needs and not zoo.truth(name).load
    ]
    return names + quiet[:HEALTHY]


def pair(name: str) -> tuple[str, str]:
    return zoo.truth(name).state, zoo.truth(name).cause


def case(name: str) -> dict:
    truth, path = zoo.truth(name), zoo.find(name.replace("-", "_"))
    package = path.name == "main.py"
    files = sorted(path.parent.rglob("*.py")) if package else [path]
    texts, marked, own = {}, [], path.parent.name if package else path.stem
    for file in files:
        within = file.relative_to(path.parent).as_posix()
        new = f"{NAME}/{within}" if package else f"{NAME}.py"
        text, moved = stripped(file.read_text())
        texts[new] = re.sub(rf"\b{own}\b", NAME, text) if package else text
        marked += [[new, moved[line]] for line, _ in zoo.marks(file.read_text())]
    facts = {
        "app": f"{NAME}.main:app" if package else f"{NAME}:app",
        "files": texts,
        "state": truth.state,
        "cause": truth.cause,
        "story": ast.get_docstring(ast.parse(path.read_text())),
        "marked": marked,
    }
    for field in ("trigger", "count", "client", "signal", "symptom", "control", "server"):
        if getattr(truth, field) != zoo.Truth.__dataclass_fields__[field].default:
            facts[field] = getattr(truth, field)
    needs = sorted(set((truth.needs or "").split()).union(*map(foreign, files)) - AT_HAND - {own})
    return {**facts, **({"needs": needs} if needs else {})}


def foreign(file: Path) -> set[str]:
    """The modules that a file imports and that do not come with Python."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {""}


def stripped(source: str) -> tuple[str, dict[int, int]]:
    """The code without docstrings, comments and the zoo's constants, and where each line that is left went."""
    lines: list[str | None] = source.splitlines()
    for first, last, instead in removed(ast.parse(source)):
        lines[first - 1 : last] = [instead, *[None] * (last - first)]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT and lines[row - 1] is not None:
            lines[row - 1] = lines[row - 1][:column].rstrip() or None
    kept: list[str] = []
    moved: dict[int, int] = {}
    for number, line in enumerate(lines, 1):
        if line is None or (not line and (not kept or kept[-2:] == ["", ""])):
            continue
        kept.append(line)
        moved[number] = len(kept)
    return "\n".join(kept).rstrip() + "\n" if kept else "", moved


def removed(tree: ast.Module) -> list[tuple[int, int, str | None]]:
    """First and last line of what goes, and what stands there instead: a body may not be empty."""
    found = [
        (node.lineno, node.end_lineno, None)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) in zoo.CONSTANTS
    ]
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and ast.get_docstring(node) is not None
        ):
            said = node.body[0]
            alone = len(node.body) == 1 and not isinstance(node, ast.Module)
            found.append((said.lineno, said.end_lineno, " " * said.col_offset + "pass" if alone else None))
    return found
