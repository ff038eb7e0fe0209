"""What a rule finds in a file, with the edits that mend it, and what becomes of the file then."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Callable

from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.bindings import FUNCTIONS
from hangdebug.repair.code.file import File, last_name, parse
from hangdebug.repair.code.layout import with_imports
from hangdebug.repair.model import Edit, Finding, apply


@dataclass(frozen=True)
class Found:
    """One place that a rule found. Without edits it is refused, and `message` says why."""

    node: ast.AST
    message: str
    edits: tuple[Edit, ...] = ()
    imports: tuple[str, ...] = ()  # modules that the edits need, such as "asyncio"
    refused: bool = False
    line: int = 0  # that the finding names, where it is not the first one of the node
    stays: str = ""  # what the edits leave unmended


Search = Callable[[File], Iterable[Found]]


def rewrite(
    rule: str,
    search: Search,
    source: str,
    name: str,
    line: int | None = None,
    exact: bool = False,
    imports: set[str] | None = None,
    code: str = "",
) -> tuple[str, tuple[Finding, ...]]:
    """The source with every edit made that the search found, and a finding for each place.

    `line` limits it to what holds that line, or else, if not `exact`, to the function around it. The imports that
    are needed are added, or given to `imports`, so that until `with_imports` every line keeps its number. What a
    `# noqa` with the rule's `code` stands beside is left alone, unless its line was asked for.
    Raises SyntaxError, RecursionError and MemoryError.
    """
    file = parse(source, name)
    found = near_line(file, list(search(file)), line, exact)
    if found and code and line is None and NOQA_WORD.search(source):
        found = [item for item in found if not is_silenced(file, item, code)]
    after = apply(source, [edit for item in found for edit in item.edits])
    needed = {module for item in found for module in item.imports}
    if imports is None:
        after = with_imports(after, needed, name)
    else:
        imports |= needed
    findings = {
        Finding(rule, name, item.line or file.line(item.node), item.message, item.refused, item.stays, code)
        for item in found
    }
    return after, tuple(sorted(findings, key=lambda item: (item.line, item.message)))


def near_line(file: File, found: list[Found], line: int | None, exact: bool) -> list[Found]:
    if line is None:
        return found
    close = [item for item in found if file.on_line(item.node, line)]
    inner = file.innermost(FUNCTIONS, line)
    return close or [item for item in found if inner and not exact and inner in (item.node, *file.above(item.node))]


NOQA_WORD = re.compile(r"(?i:noqa)")
CODE = r"[A-Z]+[0-9]*\b"
CODES = rf"(?P<only>(?:\s*:\s*|\s+)(?P<codes>{CODE}(?:[,\s]+{CODE})*)|\s*:)?"  # many leave the colon out
NOQA = re.compile(rf"#\s*(?i:noqa)\b{CODES}")
FILE_NOQA = re.compile(rf"#\s*hang:\s*(?i:noqa)\b{CODES}")


def is_silenced(file: File, item: Found, code: str) -> bool:
    """Whether a `# noqa` on the lines of its statement, or a `# hang: noqa` anywhere in the file, names the code."""
    if FILE_NOQA.search(file.text) and any(names_code(FILE_NOQA, comment, code) for _, comment in file.layout.comments):
        return True
    line = item.line or file.line(item.node)
    statement = file.statement(item.node)
    body = getattr(statement, "body", None)
    first = file.line(statement)
    last = file.line(body[0]) - 1 if isinstance(body, list) else file.line_of(file.end(statement))
    lines = range(first, last + 1) if first <= line <= last else range(line, line + 1)
    start, end = file.starts[lines.start - 1], file.line_end(file.starts[lines.stop - 2])
    return bool(NOQA.search(file.text, start, end)) and any(
        start <= at < end and names_code(NOQA, comment, code) for at, comment in file.layout.comments
    )


def names_code(pattern: re.Pattern[str], comment: str, code: str) -> bool:
    """Whether the comment is meant for the code: without a list of codes it is meant for all."""
    found = pattern.search(comment)
    if not found or not found["only"]:
        return bool(found)
    return any(code.startswith(each) for each in re.split(r"[,\s]+", found["codes"] or "") if each)


# -- the lines that findings name ----------------------------------------------------------------------

LINE = re.compile(r"\bline (\d+)(?: of (\S+\.py)\b)?")
ENDING = re.compile(r"\r\n|\r|\n")


def split_lines(text: str) -> list[str]:
    """The lines of a source as Python counts them: a form feed ends none."""
    return ENDING.split(text) if "\r" in text else text.split("\n")


def renumber(item: Finding, after: str, before: str) -> Finding:
    """The finding with every line of its file that it names as it is numbered in the text before."""
    if after == before:
        return item

    def moved(found: re.Match[str]) -> str:
        if found[2] and found[2] != Path(item.file).name:
            return found[0]
        return found[0].replace(found[1], str(line_moved(after, before, int(found[1]))), 1)

    words, stays = (LINE.sub(moved, text) for text in (item.message, item.stays))
    return replace(item, line=line_moved(after, before, item.line), message=words, stays=stays)


def line_moved(old: str, new: str, line: int) -> int:
    """Where a line of the old text stands in the new one; a line that is gone, where its neighbour does."""
    place = 0
    for start, end, there, until in changed_blocks(old, new):
        if start < line <= end:
            return min(there + line - start, max(until, there + 1))
        place = until
    return place or 1


@lru_cache(maxsize=2)
def changed_blocks(old: str, new: str) -> list[tuple[int, int, int, int]]:
    """The blocks of lines that are the same but for their indentation, replaced, put in or taken out, in order."""
    before, after = ([line.strip() for line in split_lines(text)] for text in (old, new))
    matcher = difflib.SequenceMatcher(None, before, after)
    return [block[1:] for block in matcher.get_opcodes()]


# -- which rules a file concerns -----------------------------------------------------------------------


@dataclass(frozen=True)
class Need:
    """What stands in a file that concerns a rule: of each group a word in its text, and in a coroutine such a call.

    None for the calls: whatever they are.
    """

    words: tuple[tuple[str, ...], ...]
    calls: frozenset[str] | None = None

    def met(self, text: str, called: frozenset[str]) -> bool:
        asked = self.calls is None or not self.calls.isdisjoint(called)
        return asked and all(any(word in text for word in group) for group in self.words)


def called_in_coroutines(file: File) -> frozenset[str]:
    """The last names of what coroutines call, themselves or in a lambda, as they were before an import renamed them."""
    if "async" not in file.text:
        return frozenset()
    called = {last_name(call.func) for call in file.scopes.known_calls if is_for_coroutine(file, call)}
    bound = [scope.names[name] for scope in file.scopes.known_opened.values() for name in called & scope.names.keys()]
    return frozenset(called | {item.qualified.split(".")[-1] for items in bound for item in items if item.qualified})


def is_for_coroutine(file: File, node: ast.AST) -> bool:
    frame = file.frame(node)
    while isinstance(frame, ast.Lambda):
        frame = file.frame(frame)
    return isinstance(frame, ast.AsyncFunctionDef)
