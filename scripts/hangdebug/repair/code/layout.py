"""Lay out the lines that a rewrite has made too long, as ruff and black do.

    page = await asyncio.to_thread(                       the arguments on a line of their own, and where that is
        requests.get, url, params=query, timeout=5        too long, each on one
    )

Only lines that changed are touched. A statement of several lines is laid out anew only if it was laid out so before.
"""

from __future__ import annotations

import ast
import difflib
import io
import tokenize
from collections.abc import Iterator

from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.file import tree_of
from hangdebug.repair.code.project import WIDTH, project_of

LONGEST = 120  # that a line is taken for one of the project's own width, where nothing says what that is
OPENING, CLOSING = "([{", ")]}"
NONE = frozenset((tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER))
TRAILER = re.compile(r"(\.\w+|\(\))*")
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
    width, lines = width_of(before, name), after.split("\n")
    step = "\t" if "\n\t" in after else "    "
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


def width_of(text: str, name: str) -> int:
    """What the project says, or the longest line that the file has, from that of black to LONGEST."""
    said = project_of(name).width
    longest = max((len(row) for row in text.split("\n") if len(row) <= LONGEST), default=0)
    return said or max(WIDTH, longest)


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
        return [f"{indent}return (", *split_body(text[len("return ") :], indent + step, width, step), f"{indent})"]
    magic = any(text[:end].rstrip().endswith(",") for _, end in groups)  # a comma that keeps one item a line
    if len(indent) + len(text) + needs <= width and not magic:
        return [indent + text]
    groups = [(start, end) for start, end in groups if text[start + 1 : end].strip()]
    if not groups:
        return [indent + text]
    start, end = group_to_open(text, groups, width - len(indent))
    body = text[start + 1 : end].strip()
    deeper = indent + step
    return [indent + text[: start + 1], *split_body(body, deeper, width, step), indent + text[end:]]


def group_to_open(text: str, groups: list[tuple[int, int]], room: int) -> tuple[int, int]:
    """The brackets whose content goes on lines of its own: the last ones, with what they are called on or follows."""
    chain = [groups[-1]]
    for group in reversed(groups[:-1]):
        if not TRAILER.fullmatch(text, group[1] + 1, chain[0][0]):
            break
        chain.insert(0, group)
    last = max(chain, key=lambda group: group[1] - group[0])
    return last if last[0] < room else max(groups, key=lambda group: group[1] - group[0])


def split_body(body: str, indent: str, width: int, step: str) -> list[str]:
    """What stands in brackets, on lines of its own."""
    _, commas, fors = read_brackets(body)
    magic = body.endswith(",")
    if len(indent) + len(body) <= width and not magic:
        return [indent + body]
    if commas:
        parts = [part.strip() for part in cut(body.rstrip(","), commas, 1)]
        rows = [split(part, indent, width, step, needs=1) for part in parts if part]
        return [line for row in rows for line in (*row[:-1], f"{row[-1]},")]
    if fors:
        return [line for part in cut(body, fors, 0) for line in split(part.strip(), indent, width, step)]
    return split(body, indent, width, step)


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
