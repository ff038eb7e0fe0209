"""Lay out the lines that a rewrite has made too long, as ruff and black do.

    page = await asyncio.to_thread(                       the arguments on a line of their own, and where that is
        requests.get, url, params=query, timeout=5        too long, each on one
    )

Only lines that changed are touched. A statement of several lines is laid out anew only if it was laid out so before.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import io
import itertools
import keyword
import os
import sys
import tokenize
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Union

from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.bindings import walk
from hangdebug.repair.code.file import File, parse, tree_of
from hangdebug.repair.model import Edit, apply

LONGEST = 120  # that a line is taken for one of the project's own width, where nothing says what that is
OPENING, CLOSING = "([{", ")]}"
NONE = frozenset((tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER))
TRAILER = re.compile(r"(\.\w+|\(\))*")
CALLED = re.compile(r"\w+$|[\])}\"']$")  # what may be called or subscripted, in front of a bracket
BREAK = re.compile(r"\s*\n\s*")


@dataclass(frozen=True)
class Logical:
    """One statement's lines, or the header of a block: where they start and end in the text's lines, from 0."""

    first: int
    end: int
    text: str
    plain: bool  # no comment, no string of several lines, no backslash

    @property
    def indent(self) -> str:
        return self.text[: len(self.text) - len(self.text.lstrip())]


def lay_out(before: str, after: str, name: str) -> str:
    """The text after a rewrite of `before`, with its changed lines no longer than the project's lines may be."""
    if before == after:
        return after
    if "\r" in after:
        old_text, new_text = (text.replace("\r\n", "\n") for text in (before, after))
        lone = "\r" in old_text + new_text
        return after if lone else lay_out(old_text, new_text, name).replace("\n", "\r\n")
    try:
        old, new = logical_lines(before), logical_lines(after)
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return after
    step = "\t" if "\n\t" in after else "    "
    width, lines = width_of(old, step, name), after.split("\n")
    for line, earlier in reversed(list(changed_lines(old, new))):
        longest = max(map(len, line.text.split("\n")))
        several = line.end > line.first + 1
        if not line.plain or (not several and longest <= width):
            continue
        if several and not any(each.plain and arrange(each, width, step) == each.text for each in earlier):
            continue
        lines[line.first : line.end] = arrange(line, width, step).split("\n")
    laid = "\n".join(lines)
    return laid if same_program(after, laid) else after


def width_of(lines: list[Logical], step: str, name: str) -> int:
    """What the project says, or the longest line that could be shorter, from that of black to LONGEST."""
    said = project_of(name).width
    if said:
        return said
    long = [each for each in lines if each.plain and "\n" not in each.text and WIDTH < len(each.text) <= LONGEST]
    return max((len(each.text) for each in long if arrange(each, WIDTH, step) != each.text), default=WIDTH)


def same_program(one: str, other: str) -> bool:
    try:
        return ast.dump(tree_of(one)) == ast.dump(tree_of(other))
    except (SyntaxError, RecursionError, MemoryError):
        return False


def logical_lines(text: str) -> list[Logical]:
    """The statements' lines. Raises TokenError, SyntaxError or IndentationError where there are no tokens."""
    rows, found, first, plain = text.split("\n"), [], None, True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and first is not None:
            plain = False
        if token.type == tokenize.NEWLINE and first is not None:
            block = "\n".join(rows[first : token.end[0]])
            found.append(Logical(first, token.end[0], block, plain and "\\\n" not in block))
            first, plain = None, True
        elif token.type not in NONE:
            first = token.start[0] - 1 if first is None else first
            plain = plain and (token.start[0] == token.end[0] or tokenize.tok_name[token.type].startswith("FSTRING"))
    return found


def changed_lines(old: list[Logical], new: list[Logical]) -> Iterator[tuple[Logical, list[Logical]]]:
    """Each line that is new, with those that it may have been before."""
    matcher = difflib.SequenceMatcher(None, [each.text for each in old], [each.text for each in new], autojunk=False)
    for kind, start, end, there, until in matcher.get_opcodes():
        if kind in ("replace", "insert"):
            yield from ((each, old[start:end]) for each in new[there:until])


def arrange(line: Logical, width: int, step: str) -> str:
    """The line as it would be laid out from scratch."""
    joined = BREAK.sub(" ", line.text.strip())
    joined = re.sub(r"(?<=[(\[{]) | (?=[)\]}])", "", joined) if "\n" in line.text else joined
    return "\n".join(split(joined, line.indent, width, step))


def split(text: str, indent: str, width: int, step: str, needs: int = 0) -> list[str]:
    """The lines of one expression or statement; `needs` is the room for what follows its last one."""
    groups, commas, _ = read_brackets(text)
    if commas and text.startswith("return ") and len(indent) + len(text) > width:
        return [
            f"{indent}return (",
            *split_body(text[len("return ") :], indent + step, width, step, True),
            f"{indent})",
        ]
    if len(indent) + len(text) + needs <= width and not keeps_lines(text):
        return [indent + text]
    groups = [(start, end) for start, end in groups if text[start + 1 : end].strip()]
    if not groups:
        return [indent + text]
    start, end = group_to_open(text, groups, width - len(indent))
    body = text[start + 1 : end].strip()
    deeper = indent + step
    called = CALLED.search(text, 0, start)
    alone = called is None or keyword.iskeyword(called[0])
    return [indent + text[: start + 1], *split_body(body, deeper, width, step, alone), indent + text[end:]]


def group_to_open(text: str, groups: list[tuple[int, int]], room: int) -> tuple[int, int]:
    """The brackets whose content goes on lines of its own: the last ones, with what they are called on or follows."""
    chain = [groups[-1]]
    for group in reversed(groups[:-1]):
        if not TRAILER.fullmatch(text, group[1] + 1, chain[0][0]):
            break
        chain.insert(0, group)
    last = max(chain, key=lambda group: group[1] - group[0])
    return last if last[0] < room else max(groups, key=lambda group: group[1] - group[0])


def split_body(body: str, indent: str, width: int, step: str, alone: bool) -> list[str]:
    """What stands in brackets, on lines of its own. The items of a list or tuple that stands `alone` get one each."""
    _, commas, fors = read_brackets(body)
    fits = len(indent) + len(body) <= width and not body.endswith(",") and not keeps_lines(body)
    if fits and not (alone and commas):
        return [indent + body]
    if commas:
        parts = [part.strip() for part in cut(body.rstrip(","), commas, 1)]
        rows = [split(part, indent, width, step, needs=1) for part in parts if part]
        return [line for row in rows for line in (*row[:-1], f"{row[-1]},")]
    if fors:
        return [line for part in cut(body, fors, 0) for line in split(part.strip(), indent, width, step)]
    return split(body, indent, width, step)


def keeps_lines(text: str) -> bool:
    """Whether brackets in it, however deep, end with a comma, which keeps each item on its line: not `(one,)`."""
    opened: list[tuple[bool, int]] = []  # of each bracket whether it may be a tuple, and the commas in it so far
    last = ""
    with contextlib.suppress(tokenize.TokenError, IndentationError, SyntaxError):
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.OP and token.string in OPENING:
                called = last[-1:].isidentifier() or last in tuple(CLOSING)
                opened.append((token.string == "(" and (not called or keyword.iskeyword(last)), 0))
            elif token.type == tokenize.OP and token.string in CLOSING and opened:
                alone, commas = opened.pop()
                if last == "," and not (alone and commas == 1):
                    return True
            elif token.string == "," and opened:
                opened[-1] = opened[-1][0], opened[-1][1] + 1
            last = token.string
    return False


def cut(text: str, places: list[int], skip: int) -> Iterator[str]:
    """The parts between the places, without the `skip` characters that stand there."""
    start = 0
    for place in places:
        yield text[start:place]
        start = place + skip
    yield text[start:]


def read_brackets(text: str) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """The outermost brackets, the commas outside of brackets, and where a `for` or `if` of a comprehension stands."""
    groups, commas, fors, depth, opened, drawn = [], [], [], 0, 0, False
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            at = token.start[1]
            if token.type == tokenize.OP and token.string in OPENING:
                opened = at if depth == 0 else opened
                depth += 1
            elif token.type == tokenize.OP and token.string in CLOSING:
                depth -= 1
                groups += [(opened, at)] if depth == 0 else []
            elif depth == 0 and token.string == ",":
                commas.append(at)
            elif depth == 0 and at and (token.string == "for" or (token.string == "if" and drawn)):
                drawn = True
                fors.append(at)
    except (tokenize.TokenError, IndentationError, SyntaxError):
        return groups, commas, fors
    return groups, commas, fors


# -- imports -------------------------------------------------------------------------------------------
# The imports of a file: add what a rewrite needs where the file's own order puts it, drop what nothing uses any more.
#
# import time                           import asyncio        `asyncio` sorts into the standard library's block,
#                                                             `time` goes with its last use
# import requests                       import requests

Import = Union[ast.Import, ast.ImportFrom]
IMPORT = (ast.Import, ast.ImportFrom)
KEEP = re.compile(r"#.*\b(noqa|pylint|type:|isort|pyright)")


def with_imports(text: str, modules: Iterable[str], name: str = "") -> str:
    """The text with each import that it lacks; see `add_import`. `name` is the file, whose project orders them."""
    for module in sorted(modules):
        text = apply(text, add_import(parse(text, name), module))
    return text


def add_import(file: File, module: str) -> list[Edit]:
    """`import asyncio` for "asyncio", `from contextlib import x` for "contextlib:x", unless the file has it.

    It goes into the first block of imports, among those of the standard library or among the others, in front of the
    first that sorts after it; where there are none of its section, into one of its own.
    """
    base, _, member = module.partition(":")
    body = file.tree.body
    kind = ast.ImportFrom if member else ast.Import
    statement = f"from {base} import {member}" if member else f"import {base}"
    if any(isinstance(node, kind) and imports_already(node, base, member) for node in body):
        return []
    rest = [node for index, node in enumerate(body) if not stays_first(node, index)]
    block: list[Import] = [
        node for node in itertools.takewhile(lambda node: isinstance(node, IMPORT), rest) if isinstance(node, IMPORT)
    ]
    order, new = project_of(file.name).order, ast.parse(statement).body[0]
    mixed = "no-sections" in order
    peers = [node for node in block if mixed or is_section(node, is_standard(base))]
    if peers and is_standard(base) and peers[0] is not block[0]:  # the file knows no sections
        peers = [node for node in block if isinstance(node, kind)] or block
    later = [node for node in peers if isinstance(new, IMPORT) and rank(node, order) > rank(new, order)]
    if block and not peers:
        first = is_standard(base)
        lines = [first_line(block[0]) if first else last_line(block[-1]) + 1]
        before, behind = (0, 1) if first else (1, 0)
    else:
        lines = [*map(first_line, later), *([last_line(peers[-1]) + 1] if peers else map(first_line, rest))]
        before, behind = 0, 0 if block else 2
    line = next((line for line in lines if stands_between(body, line)), None)
    if line is None or line > len(file.starts) - 1:
        return [Edit(len(file.text), len(file.text), f"{file.newline}{statement}{file.newline}")]
    at = file.starts[line - 1]
    return [Edit(at, at, f"{file.newline * before}{statement}{file.newline}{file.newline * behind}")]


def is_section(node: Import, standard: bool) -> bool:
    """Whether the import belongs to the standard library, or else to other packages by their full names."""
    relative = isinstance(node, ast.ImportFrom) and node.level > 0
    return not relative and is_standard(sort_key(node)) is standard


def is_standard(name: str) -> bool:
    return name.split(".")[0] in standard_modules()


@lru_cache(maxsize=1)
def standard_modules() -> frozenset[str]:
    known = getattr(sys, "stdlib_module_names", None)  # since Python 3.10
    if known:
        return frozenset(known)
    names = {entry.split(".")[0] for entry in os.listdir(os.path.dirname(os.__file__))}
    return frozenset({*names, *sys.builtin_module_names} - {"site-packages"})


def rank(node: Import, order: frozenset[str]) -> tuple[bool, str, bool]:
    """How the import sorts in its section: plain ones first, unless the project says otherwise."""
    is_from = isinstance(node, ast.ImportFrom)
    first = is_from != ("from-first" in order)
    return first and "force-sort-within-sections" not in order, sort_key(node).lower(), is_from


def first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def last_line(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def stands_between(body: list[ast.stmt], line: int) -> bool:
    """Whether a line stands between two statements of the module, and behind those that stay first."""
    return all(
        last_line(node) < line or (first_line(node) >= line and not stays_first(node, index))
        for index, node in enumerate(body)
    )


def stays_first(node: ast.stmt, index: int) -> bool:
    """A docstring or `from __future__`, which stay first."""
    future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
    return future or (not index and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def imports_already(node: ast.Import | ast.ImportFrom, base: str, member: str) -> bool:
    names = {item.name for item in node.names if item.asname is None}
    if isinstance(node, ast.ImportFrom):
        return member in names and node.module == base and not node.level
    return not member and base in names


def sort_key(node: ast.Import | ast.ImportFrom) -> str:
    return node.names[0].name if isinstance(node, ast.Import) else "." * node.level + (node.module or "")


# -- what nothing uses any more ------------------------------------------------------------------------------


def without_unused(before: str, after: str, name: str) -> str:
    """The text without the imports whose last use the rewrite of `before` took away."""
    if before == after or Path(name).name == "__init__.py":
        return after
    old, new = parse(before, name), parse(after, name)
    gone = {each for each in old.scopes.reads() if each not in new.scopes.reads() and not is_named(new, each)}
    return apply(after, [edit for node in walk(new.tree) if isinstance(node, IMPORT) for edit in drop(new, node, gone)])


def is_named(file: File, name: str) -> bool:
    """Whether a string of the file names it: an entry of `__all__`, an annotation in quotes."""
    word = re.compile(rf"\b{re.escape(name)}\b")
    hidden = {part for node in walk(file.tree) for part in annotation_of(node)}
    return any(
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and (node.value == name or (node in hidden and word.search(node.value)))
        for node in walk(file.tree)
    )


def annotation_of(node: ast.AST) -> Iterator[ast.AST]:
    for field in ("annotation", "returns"):
        said = getattr(node, field, None)
        if isinstance(said, ast.AST):
            yield from walk(said)


def drop(file: File, node: Import, gone: set[str]) -> list[Edit]:
    """The edits that take the names from the import, none where its lines hold anything else."""
    left = [item for item in node.names if (item.asname or item.name.split(".")[0]) not in gone]
    start, end = file.line_start(file.start(node)), file.line_end(file.end(node))
    rows = file.text[start:end]
    parent = file.parent(node)
    if len(left) == len(node.names) or KEEP.search(rows) or node not in getattr(parent, "body", ()):
        return []
    alone = rows.split("#")[0].strip() == file.source(node)
    if left:
        return shorten(file, node, left) if alone else []
    if not alone or len(getattr(parent, "body", ())) == 1 or isinstance(parent, (ast.If, ast.Try)):
        return []
    behind = min(end + len(file.newline), len(file.text))
    above = file.text[:start].rstrip(" \t").endswith(file.newline * 2) or not file.text[:start].strip()
    while above and file.text.startswith(file.newline, behind):  # it was the only one of its block
        behind += len(file.newline)
        above = not file.text[:start].strip()
    return [Edit(start, behind, "")]


def shorten(file: File, node: Import, left: list[ast.alias]) -> list[Edit]:
    """The same import of fewer names: on one line, or without the lines of the others."""
    kept = [f"{item.name} as {item.asname}" if item.asname else item.name for item in left]
    text = file.source(node)
    if "\n" not in text and "\r" not in text:
        head = text[: text.index("import") + len("import")]
        opened = "(" in text
        return [Edit(file.start(node), file.end(node), f"{head} {'(' * opened}{', '.join(kept)}{')' * opened}")]
    rows = text.splitlines(keepends=True)
    names = {f"{item.name} as {item.asname}" if item.asname else item.name for item in node.names} - set(kept)
    plain = [row for row in rows if row.split("#")[0].strip().rstrip(",").strip() not in names]
    return [Edit(file.start(node), file.end(node), "".join(plain))] if len(rows) - len(plain) == len(names) else []


# -- the project around a file -------------------------------------------------------------------------
# The project around a file: its other Python files, the oldest Python that it supports, how it lays out its lines.
#
# [project]                             `asyncio.to_thread` and `cancel_futures` need Python 3.9, so that a
# requires-python = ">=3.8"             rewrite does without them here

SKIPPED = frozenset("__pycache__ node_modules site-packages dist-packages".split())
MOST_FILES = 2000  # of a tree that is looked through for what else uses a name


def other_files(name: str) -> Iterator[tuple[Path, bytes]]:
    """The other Python files of the tree around a file, each with its content, up to MOST_FILES."""
    root, path = tree_around(name), Path(name).resolve()
    for other in files_below(root) if root else ():
        if other != path:
            with contextlib.suppress(OSError):
                yield other, other.read_bytes()


@lru_cache(maxsize=64)
def tree_around(name: str) -> Path | None:
    """The folder that holds the outermost package around a file, None where it is no file."""
    path = Path(name)
    if not path.is_file():
        return None
    root = path.resolve().parent
    while (root / "__init__.py").exists():
        root = root.parent
    return root


@lru_cache(maxsize=1)
def files_below(root: Path) -> tuple[Path, ...]:
    return tuple(map(Path, itertools.islice(python_files(str(root)), MOST_FILES)))


def python_files(folder: str) -> Iterator[str]:
    """The `*.py` below a folder, without hidden folders, virtual environments and installed packages."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_left_out(here, name))
        for name in sorted(files):
            if name.endswith(".py") and not name.startswith("."):
                yield os.path.normpath(os.path.join(here, name))


def is_left_out(here: str, name: str) -> bool:
    return name.startswith(".") or name in SKIPPED or os.path.exists(os.path.join(here, name, "pyvenv.cfg"))


# -- what its configuration says -----------------------------------------------------------------------------

WIDTH = 88  # of ruff and black, where nothing is said
FLAGS = ("force-sort-within-sections", "from-first", "no-sections")
WIDTHS = ("tool.ruff", "tool.black", "", "flake8", "pycodestyle", "tool.flake8")  # the first that says one is right
SECTION = re.compile(r"^\s*\[+\s*([^\]\n]+?)\s*\]+\s*(?:#.*)?$")
SETTING = re.compile(r"""^\s*["']?([\w.-]+)["']?\s*[=:]\s*(.+?)\s*$""")
LOWEST = re.compile(r"(?:>=?|~=?|\^|==|^|[\"'\s,])\s*3\.(\d+)")
IN_SETUP = re.compile(r"python_requires\s*=\s*[\"']([^\"']*)")
FILES = ("ruff.toml", ".ruff.toml", "pyproject.toml", "setup.cfg", "tox.ini", ".flake8")


@dataclass(frozen=True)
class Project:
    """`python` is the oldest minor version of Python 3 that it supports, 0 where nothing says so.

    `width` is how long its lines may be, 0 where nothing says so; `order` holds those of FLAGS that it sets for its
    imports.
    """

    python: int = 0
    width: int = 0
    order: frozenset[str] = frozenset()

    def has(self, minor: int) -> bool:
        """Whether each Python that it supports is at least 3.`minor`; so is one that nothing is said of."""
        return not self.python or self.python >= minor


def project_of(name: str) -> Project:
    """What the nearest configuration above the file says; nothing where it is no file."""
    path = Path(name)
    return read_project(path.resolve().parent) if path.is_file() else Project()


@lru_cache(maxsize=64)
def read_project(folder: Path) -> Project:
    """What the folder's configuration says, or else that of the folders above it, up to the repository's root."""
    said = {key: value for file in reversed(FILES) for key, value in settings_in(folder / file).items()}
    python = lowest(
        said.get(("project", "requires-python"), "")
        or said.get(("tool.poetry.dependencies", "python"), "")
        or said.get(("options", "python_requires"), "")
        or "".join(IN_SETUP.findall(text_of(folder / "setup.py"))[:1])
    )
    widths = [
        said[section, key] for section in WIDTHS for key in ("line-length", "max-line-length") if (section, key) in said
    ]
    width = int(widths[0]) if widths and widths[0].isdecimal() else 0
    found = Project(python, width, frozenset(flag for flag in FLAGS if is_set(said, flag)))
    if (folder / ".git").exists() or folder.parent == folder or (found.python and found.width):
        return found
    above = read_project(folder.parent)
    return Project(found.python or above.python, found.width or above.width, found.order or above.order)


def settings_in(path: Path) -> dict[tuple[str, str], str]:
    """The plain settings of a TOML or INI file by section and key, underscores made hyphens in all but two keys."""
    section, found = "", {}
    for row in text_of(path).splitlines():
        head, setting = SECTION.match(row), SETTING.match(row)
        if head:
            section = head[1]
        elif setting:
            key = setting[1] if setting[1] == "python_requires" else setting[1].replace("_", "-")
            found[section, key] = setting[2].split("#")[0].strip().strip("\"'")
    return found


def is_set(said: dict[tuple[str, str], str], flag: str) -> bool:
    sections = ("lint.isort", "isort", "tool.ruff.lint.isort", "tool.ruff.isort", "tool.isort", "settings")
    return any(said.get((section, flag), "").lower() == "true" for section in sections)


def lowest(said: str) -> int:
    """The oldest minor version that a requirement such as ">=3.8,<4" or "^3.8" allows, 0 where it names none."""
    lower = re.sub(r"(<=?|!=)\s*[\d.*]+", "", said)
    return min((int(minor) for minor in LOWEST.findall(lower)), default=0)


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
