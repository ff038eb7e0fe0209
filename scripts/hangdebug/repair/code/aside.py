"""Another file of the tree, read as far as it is asked for: which one an import means, and what stands in it.

    from app.feeds import fetch           of app/feeds.py the statements of the module are parsed, and `fetch`

A large tree is looked at file by file, and most of what the others hold is of no concern to the one at hand.
"""

from __future__ import annotations

import ast
import re as patterns
from functools import lru_cache
from pathlib import Path

from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.bindings import read_scopes
from hangdebug.repair.code.file import File, make_file, tree_of
from hangdebug.repair.code.layout import SKIPPED

LARGEST = 500_000  # bytes of another file that is read
KINDS = {"def": ast.FunctionDef, "async def": ast.AsyncFunctionDef, "class": ast.ClassDef}
HEADER = re.compile(r"(async def|def|class)\s+(\w+)")
OUTER = re.compile(r"^[^\s#)\]}]", re.M)  # where a line starts that is no continuation of a definition
QUOTES = re.compile(r'"""|' + r"'''")


@dataclass(frozen=True)
class Part:
    """A definition of the module: its text with its decorators, the line (from 1) that this starts on, its name."""

    text: str
    line: int
    kind: str
    name: str


@lru_cache(maxsize=1024)
def text_of_other(path: str) -> str:
    """The text of the file, "" where it is too large or cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8") if Path(path).stat().st_size <= LARGEST else ""
    except (OSError, ValueError):
        return ""


@lru_cache(maxsize=512)
def read_other(path: str) -> File | None:
    text = text_of_other(path)
    try:
        return read_in_parts(text, path) if text else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def read_in_parts(text: str, path: str) -> File:
    """Raises SyntaxError, and RecursionError or MemoryError for an expression that nests too deeply."""
    rest, parts = take_apart(text)
    try:
        tree = parse(rest)
    except SyntaxError:
        parts, tree = {}, parse(text)
    tree.body += parts  # type: ignore[arg-type]
    file = make_file(text, tree, path)

    def fill(stub: ast.AST) -> None:
        """Make the definition's node what the parser sees there; an empty one where it sees none."""
        part = parts[stub]
        try:
            found = parse("\n" * (part.line - 1) + part.text).body
        except (SyntaxError, RecursionError, MemoryError):
            found = []
        node = found[0] if len(found) == 1 and isinstance(found[0], type(stub)) else parse_of(part)
        vars(stub).update(vars(node))

    vars(file)["scopes"] = read_scopes(tree, parts, fill)
    return file


def parse(text: str) -> ast.Module:
    return tree_of.__wrapped__(text)


def parse_of(part: Part) -> ast.stmt:
    return parse(f"{part.kind} {part.name}{'' if part.kind == 'class' else '()'}: ...").body[0]


def take_apart(text: str) -> tuple[str, dict[ast.AST, Part]]:
    """The text with the lines of the module's definitions made empty, and these by a node that stands for each.

    Where a string of several lines may reach over the end of one, all of it stays in the text.
    """
    if "\r" in text:
        return text, {}
    starts = [found.start() for found in OUTER.finditer(text)]
    parts: dict[ast.AST, Part] = {}
    kept: list[str] = []
    done, begun, line, counted = 0, None, 1, 0
    for start, end in zip(starts, [*starts[1:], len(text)]):
        begun = start if begun is None else begun
        if text[start] == "@":
            continue
        found = HEADER.match(text, start)
        if found:
            whole = text[begun:end]
            if len(QUOTES.findall(whole)) % 2:
                return text, {}
            if "global " not in whole:  # which binds a name of the module
                line, counted = line + text.count("\n", counted, begun), begun
                stub = KINDS[found[1]](name=found[2], decorator_list=[], lineno=line, col_offset=0)
                parts[stub] = Part(whole, line, found[1], found[2])
                kept += [text[done:begun], "\n" * whole.count("\n")]
                done = end
        begun = None
    return "".join([*kept, text[done:]]), parts


@lru_cache(maxsize=1024)
def definitions(path: str) -> dict[str, str]:
    """What the module defines once: the name, and how."""
    found: dict[str, str] = {}
    for kind, name in patterns.findall(r"^(async def|def|class) (\w+)", text_of_other(path), re.M):
        found[name] = "" if name in found else kind
    return found


# -- which file an import means -------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def folder_of(name: str) -> str:
    """The folder that the file stands in, "" where it is no file."""
    return str(Path(name).resolve().parent) if name and Path(name).is_file() else ""


@lru_cache(maxsize=4096)
def place_of(folder: str, name: str) -> tuple[str, tuple[str, ...]]:
    """The file that an imported dotted name leads to from a folder, with the names in it; "" where there is none."""
    words = name.lstrip(".").split(".")
    up = len(name) - len(name.lstrip("."))
    roots = [Path(folder, *[".."] * (up - 1))] if up else roots_above(folder)
    for root in roots:
        for count in range(len(words), 0, -1) if up or holds(root, words[0]) else ():
            base = root.joinpath(*words[:count])
            for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
                if path.is_file():
                    return str(path), tuple(words[count:])
    return ("", ())


@lru_cache(maxsize=4096)
def holds(root: Path, name: str) -> bool:
    return (root / name).is_dir() or (root / f"{name}.py").is_file()


@lru_cache(maxsize=1024)
def roots_above(folder: str) -> tuple[Path, ...]:
    """The folders from which a file in this one may import: its own, and those above up to the repository's."""
    here = Path(folder).resolve()
    found = []
    for each in (here, *here.parents)[:8]:
        if each.name in SKIPPED or each.parent == each:
            break
        found.append(each)
        if (each / ".git").exists() or (each / "pyproject.toml").exists():
            break
    return tuple(found)
