"""Another file of the tree, read as far as it is asked for: which one an import means, and what stands in it.

    from app.feeds import fetch           of app/feeds.py the statements of the module are parsed, and `fetch`

A large tree is looked at file by file, and most of what the others hold is of no concern to the one at hand.
"""

from __future__ import annotations

import ast
import bisect
import os
import re as patterns
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from hangdebug.evidence import light as re
from hangdebug.repair.code.bindings import DEFINED, Scopes, Unread, add_statements, read_below, read_scopes
from hangdebug.repair.code.file import File, tree_of
from hangdebug.repair.code.layout import SKIPPED, files_below

LARGEST = 500_000  # bytes of another file that is read
KINDS = {"def": ast.FunctionDef, "async def": ast.AsyncFunctionDef, "class": ast.ClassDef}
HEADER = re.compile(r"[ \t]*(async def|def|class)\s+(\w+)")
GOES_ON = re.compile(r"[ \t]*(?:else|elif|except|finally)\b")  # what is a part of the statement above it
BETWEEN = frozenset(("", *" \t\f\n#"))  # what no statement begins with
GLOBAL = re.compile(r"(?:^|[:;])[ \t]*global ", re.M)
INNER = re.compile(r"\n([ \t]+)[^\s#]")  # the first line of what stands in a class


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
    return read_in_parts(text, path, statements_of(path)) if text else None


@lru_cache(maxsize=1024)
def statements_of(path: str) -> tuple[Chunk, ...]:
    return tuple(chunks_of(text_of_other(path)))


def read_in_parts(text: str, path: str, chunks: Iterable[Chunk]) -> File:
    """The file, with nothing in it that nobody asks for."""
    tree = ast.Module(body=[], type_ignores=[])
    file, parts = File(text, tree, path), Parts(text, chunks)
    vars(file)["scopes"] = scopes = read_scopes(tree, parts)
    if " import *" in text:  # which may bind any name
        parts.parse(scopes, parts.holding(" import *"))
    return file


class Chunk(NamedTuple):
    """A statement of the module or of a class, or several, from one offset to the other, both at a line's start.

    `head` is where its own line starts, behind its decorators. `kind` and `name` are those of a definition, or "";
    `rebinds` says whether it may bind other names of the module too.
    """

    start: int
    head: int
    end: int
    kind: str = ""
    name: str = ""
    rebinds: bool = False


def chunks_of(text: str, margin: str = "", start: int = 0, end: int | None = None) -> Iterator[Chunk]:
    """What begins with this margin between the offsets. Where a string may reach over the end of one, it is longer."""
    end = len(text) if end is None else end
    if "\r" in text:
        yield Chunk(0, 0, end)
        return
    begins = begins_at(margin)
    places = [found.start() + 1 for found in begins.finditer(text, start, end)]
    if not start and text[:1] not in BETWEEN:
        places.insert(0, 0)
    first, head, quotes, several = -1, -1, 0, False
    for at, until in zip(places, [*places[1:], end]):
        mark = text[at + len(margin)]
        if first >= 0 and quotes % 2:  # a string goes on, or its quotes stand in another one
            several = True
        elif first >= 0 and not (mark in "ef" and GOES_ON.match(text, at)):
            if text[head + len(margin)] != "@":
                yield chunk(text, first, head, at, several)
                first, several = -1, False
            head = at
        first, head = (first, head) if first >= 0 else (at, at)
        quotes += text.count('"""', at, until) + text.count("'''", at, until)
    if first >= 0:
        yield chunk(text, first, head, end, several)


@lru_cache(maxsize=16)
def begins_at(margin: str) -> patterns.Pattern[str]:
    return patterns.compile(rf"\n{margin}[^\s#)\]}}]")


def chunk(text: str, start: int, head: int, end: int, several: bool) -> Chunk:
    found = None if several else HEADER.match(text, head)
    if not found:
        return Chunk(start, head, end)
    rebinds = text.find("global ", head, end) >= 0 and bool(GLOBAL.search(text, head, end))
    return Chunk(start, head, end, found[1], found[2], rebinds)


class Parts(Unread):
    """The statements of a module that were not asked for, as text; then the methods of a class that was.

    What is not plain (a statement that goes on at the margin, or ends in another line than it seems) is no Python when
    it is parsed by itself: then all of the module is parsed at once.
    """

    def __init__(self, text: str, chunks: Iterable[Chunk]) -> None:
        self.text = text
        self.chunks = {each.start: each for each in chunks}
        self.starts = [*self.chunks]
        self.methods: dict[ast.AST, Chunk] = {}
        self.asked: set[str] = set()
        self.words: set[str] = set()

    def line(self, at: int) -> int:
        return self.text.count("\n", 0, at) + 1

    def holding(self, word: str) -> list[Chunk]:
        """The statements that hold the word, of those that are left."""
        found: dict[int, None] = {}
        at = self.text.find(word) if self.chunks else -1
        while at >= 0:
            index = bisect.bisect_right(self.starts, at) - 1
            found[self.starts[index]] = None
            behind = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.text)
            at = self.text.find(word, behind)
        return [self.chunks[start] for start in found if start in self.chunks]

    # -- what is asked for ---------------------------------------------------------------------------------------

    def puts_off(self, scopes: Scopes, node: ast.AST) -> bool:
        return node in self.methods

    def read_name(self, scopes: Scopes, name: str) -> None:
        if self.chunks and name not in self.asked:
            self.asked.add(name)
            self.parse(scopes, [each for each in self.holding(name) if each.rebinds or each.name in ("", name)])

    def read_word(self, scopes: Scopes, word: str) -> None:
        if word not in self.words:
            self.words.add(word)
            self.parse(scopes, self.holding(word))
            inside = [node for node, each in self.methods.items() if self.text.find(word, each.start, each.end) >= 0]
            self.read_nodes(scopes, inside)

    def read_rest(self, scopes: Scopes) -> None:
        self.parse(scopes, list(self.chunks.values()))
        self.read_nodes(scopes, list(self.methods))

    def read_nodes(self, scopes: Scopes, nodes: Iterable[ast.AST]) -> None:
        """Make a method's node what the parser sees there; an empty one where it sees none."""
        for node in nodes:
            each = self.methods.pop(node, None)
            if each is None:
                continue
            text = "\n" * (self.line(each.start) - 2) + "if 1:\n" + self.text[each.start : each.end]
            found = body_of(text)
            inside = getattr(found[0], "body", []) if found else []
            if len(inside) == 1 and isinstance(inside[0], type(node)):
                vars(node).update(vars(inside[0]))
            read_below(scopes, node)

    # -- how it is parsed ----------------------------------------------------------------------------------------

    def parse(self, scopes: Scopes, chunks: list[Chunk]) -> None:
        for each in chunks:
            if not self.chunks.pop(each.start, None):  # all was parsed meanwhile
                return
            found = self.parse_class(each) if each.kind == "class" else None
            found = found or body_of(self.lines_before(each) + self.text[each.start : each.end])
            add_statements(scopes, self.parse_all(each) if found is None else found)

    def lines_before(self, each: Chunk) -> str:
        """What makes the parser count as in the whole text."""
        return "\n" * (self.line(each.start) - 1)

    def parse_class(self, each: Chunk) -> list[ast.stmt] | None:
        """The class with its methods empty, to be read later, None where that cannot be done."""
        text, first = self.text, INNER.search(self.text, each.head, each.end)
        if first is None or each.rebinds:
            return None
        inside = chunks_of(text, first[1], first.start(), each.end)
        methods = [one for one in inside if one.kind in ("def", "async def")]
        kept, at = [self.lines_before(each)], each.start
        for one in methods:
            lines = text.count("\n", one.start, one.head), text.count("\n", one.head, one.end)
            kept += [text[at : one.start], "\n" * lines[0], f"{first[1]}{one.kind} {one.name}(): ...", "\n" * lines[1]]
            at = one.end
        found = body_of("".join([*kept, text[at : each.end]]))
        nodes = [node for node in getattr(found[0], "body", ()) if isinstance(node, DEFINED)] if found else []
        if [node.name for node in nodes] != [one.name for one in methods]:
            return None
        self.methods.update(zip(nodes, methods))
        return found

    def parse_all(self, last: Chunk) -> list[ast.stmt]:
        """What the chunks that are left are in the whole module, `last` among them."""
        places = [(self.line(each.start), self.line(each.end)) for each in (last, *self.chunks.values())]
        self.chunks = {}
        found = body_of(self.text) or []
        return [node for node in found if any(start <= node.lineno < end for start, end in places)]


def body_of(text: str) -> list[ast.stmt] | None:
    """None where it is no Python by itself."""
    try:
        return parse(text).body
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def parse(text: str) -> ast.Module:
    return tree_of.__wrapped__(text)


@lru_cache(maxsize=1024)
def definitions(path: str) -> dict[str, str]:
    """What the module defines once: the name, and how."""
    found: dict[str, str] = {}
    for each in statements_of(path):
        if each.name:
            found[each.name] = "" if each.name in found else each.kind
    return found


KEEPS = re.compile(r"app\.state\.(\w+)\s*(?::[^=\n]+)?=(?!=)")


@lru_cache(maxsize=1)
def who_keeps(root: Path | None) -> dict[str, list[str]]:
    """The files below the folder that give the state of an application something, by its name."""
    found: dict[str, list[str]] = {}
    for path in map(str, files_below(root) if root else ()):
        text = text_of_other(path)
        for name in dict.fromkeys(KEEPS.findall(text)) if "app.state." in text else ():
            found.setdefault(name, []).append(path)
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
    roots = (os.path.normpath(os.path.join(folder, *[".."] * (up - 1))),) if up else roots_above(folder)
    for root in roots:
        for count in range(len(words), 0, -1) if up or holds(root, words[0]) else ():
            base = os.path.join(root, *words[:count])
            for path in (f"{base.rstrip(os.sep)}.py", os.path.join(base, "__init__.py")):
                if os.path.isfile(path):
                    return path, tuple(words[count:])
    return ("", ())


@lru_cache(maxsize=4096)
def holds(root: str, name: str) -> bool:
    return os.path.isdir(os.path.join(root, name)) or os.path.isfile(os.path.join(root, f"{name}.py"))


@lru_cache(maxsize=1024)
def roots_above(folder: str) -> tuple[str, ...]:
    """The folders from which a file in this one may import: its own, and those above up to the repository's."""
    here = Path(folder).resolve()
    found = []
    for each in (here, *here.parents)[:8]:
        if each.name in SKIPPED or each.parent == each:
            break
        found.append(str(each))
        if (each / ".git").exists() or (each / "pyproject.toml").exists():
            break
    return tuple(found)
