"""What a source line calls. A C function has no frame: the user's own line is all that names it."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from hangdebug.errors import BadRequest
from hangdebug.evidence import light as re
from hangdebug.evidence.as_seen import read_as_seen
from hangdebug.evidence.frames import is_application, is_known_library
from hangdebug.evidence.model import Evidence, Frame, Snapshot

NOISE = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|\#.*$""")
AWAITED = re.compile(r"\bawait\s+[\w.]+\(")
CALLED = re.compile(r"(?<![\w.])([A-Za-z_][\w.]*(?:\([^()]*\)\.[A-Za-z_][\w.]*)*)\s*\(")
WITH = re.compile(r"^\s*with\s+")
WITH_STATEMENT = re.compile(r"^\s*(?:async\s+)?with\b")
FROM_IMPORT = re.compile(r"^\s*from\s+([\w.]+)\s+import\s+([^#]+)")
ALIAS = re.compile(
    r"^\s*(?:import\s+(?P<module>[\w.]+)\s+as\s+(?P<alias>\w+)|"
    r"(?P<target>[\w.]+)\s*=\s*(?P<value>[A-Za-z_][\w.]*)\s*(?:#.*)?$)"
)
MADE = re.compile(
    r"^\s*(?:async\s+)?(?:with\s+(?P<opened>[A-Za-z_][\w.]*)\(.*\bas\s+(?P<name>\w+)\s*:|"
    r"(?P<target>[\w.]+)\s*(?::[^=]+)?=\s*(?:[\w.\[\]]+\s*=\s*)*(?P<maker>[A-Za-z_][\w.]*)\()"
)
DEF = re.compile(r"^(?P<indent>\s*)(?P<kind>async def|def|class)\s")
YIELD = re.compile(r"\byield\b")
NOT_CALLS = frozenset("if elif while for and or not in is return yield await lambda assert with print def".split())

Sources = Mapping[str, Mapping[int, str]]

ENDLESS = re.compile(r"\s*while (?:True|1)\s*:")


def line_at(sources: Sources, frame: Frame) -> str | None:
    """The frame's line as it stands in its file, without indentation, or None where the file is unknown."""
    if frame.line is None:
        return None
    text = sources.get(frame.file, {}).get(frame.line)
    return text.strip() or None if text is not None else None


def statement_at(sources: Sources, frame: Frame) -> str:
    """The frame's line and those after it that belong to the same brackets, on one line; "" if unknown."""
    lines = sources.get(frame.file, {})
    number = frame.line or 0
    text = ""
    for offset in range(8):
        more = lines.get(number + offset)
        if more is None:
            break
        text += NOISE.sub(lambda found: '""' if found[1] else "", more).strip() + " "
        if text.count("(") + text.count("[") + text.count("{") <= text.count(")") + text.count("]") + text.count("}"):
            break
    return text.strip()


def raw_statement(lines: Mapping[int, str], number: int) -> str:
    """A line and those after it that belong to the same brackets, strings as they stand; "" if unknown."""
    text = lines.get(number, "")
    for offset in range(1, 8):
        if text.count("(") <= text.count(")") or number + offset not in lines:
            break
        text = f"{text} {lines[number + offset].strip()}"
    return text


def called(statement: str) -> frozenset[str]:
    """The dotted names that a statement calls: {"time.sleep"} for `x = time.sleep(2)`.

    What it awaits is left out: that lets the loop go on.
    """
    return frozenset(name for name in CALLED.findall(AWAITED.sub("(", statement)) if name not in NOT_CALLS)


def unaliased(sources: Sources, frame: Frame, names: frozenset[str]) -> frozenset[str]:
    """What `names` stand for by the file's known imports and assignments: {"time.sleep"} for {"pause"}."""
    lines = sources.get(frame.file, {}).values()
    found: dict[str, str] = {}
    for line in lines:
        module, single = FROM_IMPORT.match(line), ALIAS.match(line)
        if module:
            for item in module[2].strip("() ").split(","):
                name, _, alias = item.strip().partition(" as ")
                found[(alias or name).strip()] = f"{module[1]}.{name.strip()}"
        elif single:
            found[single["alias"] or single["target"]] = single["module"] or single["value"]
    resolved = set()
    for name in names:
        head, dot, rest = name.partition(".")
        if name in found:
            resolved.add(found[name])
        elif head in found:
            resolved.add(f"{found[head]}{dot}{rest}")
    return frozenset(resolved)


def makers(sources: Sources, frame: Frame, name: str) -> frozenset[str]:
    """What was called to make the object of that name: {"re.compile"} for NAME after `NAME = re.compile(...)`."""
    found = [MADE.match(line) for line in sources.get(frame.file, {}).values()]
    names = frozenset(one["maker"] or one["opened"] for one in found if one and name in (one["target"], one["name"]))
    return names | unaliased(sources, frame, names)


def with_line(sources: Sources, frame: Frame) -> Frame:
    """The `with` statement whose end runs: CPython 3.9 names the last line of the block instead."""
    lines = sources.get(frame.file, {})
    if frame.line is None or frame.line not in lines or WITH_STATEMENT.match(lines[frame.line]):
        return frame
    depth = indent(lines[frame.line])
    for number in range(frame.line - 1, 0, -1):
        text = lines.get(number)
        if text is None or DEF.match(text):
            break
        if text.strip() and indent(text) < depth:
            if WITH_STATEMENT.match(text):
                return replace(frame, line=number)
            depth = indent(text)
    return frame


def entered(statement: str) -> str | None:
    """What a `with` statement enters when it calls nothing: "self._lock" for `with self._lock:`."""
    items, _ = with_parts(statement)
    if not items or "(" in items:
        return None
    return items.split(" as ")[0].strip()


def with_parts(statement: str) -> tuple[str, str]:
    """What a `with` statement enters, and the body on the same line: ("a, b as c", "x()") of `with a, b as c: x()`."""
    found = WITH.match(statement)
    start, depth = found.end() if found else len(statement), 0
    for at in range(start, len(statement)):
        depth += (statement[at] in "([{") - (statement[at] in ")]}")
        if statement[at] == ":" and depth == 0:
            return statement[start:at].strip(), statement[at + 1 :].partition("#")[0].strip()
    return statement[start:].strip(), ""


def in_coroutine(sources: Sources, frame: Frame) -> bool | None:
    """Whether the frame's function is an `async def`; None where the source does not show it."""
    lines = sources.get(frame.file, {})
    if frame.line is None or frame.line not in lines:
        return None
    depth = indent(lines[frame.line])
    for number in range(frame.line, 0, -1):
        text = lines.get(number)
        if text is None:
            return None
        found = DEF.match(text)
        if found and (len(found["indent"]) < depth or number == frame.line) and found["kind"] != "class":
            return found["kind"] == "async def"
    return None


def in_generator(sources: Sources, frame: Frame) -> bool:
    """Whether the frame's function is a `def` with a `yield` of its own, as far as the known lines show."""
    lines = sources.get(frame.file, {})
    if frame.line is None or in_coroutine(sources, frame) is not False:
        return False
    number, depth = frame.line, indent(lines[frame.line])
    while not (DEF.match(lines[number]) and (indent(lines[number]) < depth or number == frame.line)):
        number -= 1
    border, nested = indent(lines[number]), None
    for text in following(lines, number + 1):
        if text.strip() and indent(text) <= border:
            break
        if nested is not None and text.strip() and indent(text) <= nested:
            nested = None
        if nested is None and DEF.match(text):
            nested = indent(text)
        elif nested is None and YIELD.search(NOISE.sub("", text)):
            return True
    return False


def earlier(sources: Sources, frame: Frame) -> tuple[str, ...]:
    """The lines of the frame's function above the frame's own, nearest first, as far as they are known."""
    lines = sources.get(frame.file, {})
    if frame.line is None or frame.line not in lines:
        return ()
    depth, found = indent(lines[frame.line]), []
    for number in range(frame.line - 1, 0, -1):
        text = lines.get(number)
        if text is None or (DEF.match(text) and indent(text) < depth):
            break
        found.append(text)
    return tuple(found)


def in_endless_loop(sources: Sources, frame: Frame) -> bool:
    """Whether the frame's line stands in a `while True:` of its function."""
    depth = indent(sources.get(frame.file, {}).get(frame.line or 0, ""))
    for text in earlier(sources, frame):
        if text.strip() and indent(text) < depth:
            depth = indent(text)
            if ENDLESS.match(text):
                return True
    return False


def following(lines: Mapping[int, str], number: int) -> Iterator[str]:
    """The known lines from `number` on, up to the first unknown one."""
    while number in lines:
        yield lines[number]
        number += 1


def indent(text: str) -> int:
    return len(text) - len(text.lstrip())


# -- the lines that a bundle keeps ---------------------------------------------------------------------
# Keep the lines around the application's frames: the function that each stands in, and what its names are bound to.

AROUND = 12
MARGIN = 2  # lines before and after a function: its decorators, and what follows
MOST_LINES, MOST_BYTES = 160, 1 << 20
NAME = re.compile(r"\b(?:self\.|cls\.)?([A-Za-z_]\w*)\b")
NO_NAMES = {"self", "cls", "with", "as", "await", "return", "async", "acquire", "submit"}
TAKES = re.compile(r"^\s*with\s|\.(?:acquire|submit)\(")  # what is held, and which pool works, is judged by name


def add_excerpts(
    snapshots: Iterable[Snapshot], known: dict[str, dict[int, str]], process: str = ""
) -> dict[str, dict[int, str]]:
    """`known`, and the lines around every application frame in `snapshots`, by file and number.

    `process` is /proc/PID of a live one: its files are seen as it sees them, in a container or from where it runs.
    """
    frames = {
        frame
        for snapshot in snapshots
        for thread in snapshot.threads
        for frame in thread.frames
        if frame.line and (is_application(frame) or not is_known_library(frame))
    }
    missing = [frame for frame in sorted(frames, key=str) if not has_window(known.get(frame.file, {}), frame.line or 0)]
    for frame in missing:
        lines = file_lines(frame.file, process)
        if lines:
            known.setdefault(frame.file, {}).update(excerpt(lines, frame))
    return known


def has_window(known: dict[int, str], line: int) -> bool:
    """Whether the line is known by a window of its own function: the margin of another one's may reach it."""
    return all(number in known or number < 1 for number in range(line - MARGIN, line + MARGIN + 1))


def file_lines(file: str, process: str) -> list[str]:
    """The lines of a file, as `process` (/proc/PID) sees it where one is given; [] where it cannot be read."""
    try:
        if process and os.path.exists("/proc/self"):
            content = read_as_seen(process, file, MOST_BYTES)
        else:
            with open(file, "rb") as opened:
                content = opened.read(MOST_BYTES)
    except (OSError, ValueError, LookupError):
        return []
    return content.decode("utf-8", "replace").splitlines()


def excerpt(lines: list[str], frame: Frame) -> dict[int, str]:
    """The enclosing function if it is short, else some lines around; and where the line's names are bound."""
    number = frame.line or 1
    if number > len(lines):
        return {}
    first, last = function_around(lines, number) or (number - AROUND, number + AROUND)
    if last - first > MOST_LINES:
        first, last = number - AROUND, number + AROUND
    kept = set(range(max(1, first - MARGIN), min(len(lines), last + MARGIN) + 1)) | set(classes_around(lines, number))
    taken = [lines[index - 1] for index in sorted(kept) if TAKES.search(lines[index - 1])]
    names = {name for text in (lines[number - 1], *taken) for name in NAME.findall(text)} - NO_NAMES
    if names:
        choice = "|".join(map(re.escape, sorted(names)))
        bound = re.compile(
            rf"^\s*(?:(?:self\.|cls\.)?(?:{choice})\s*(?::[^=]+)?=[^=]|(?:from|import)\b.*\b(?:{choice})\b)"
        )
        kept |= {index for index, text in enumerate(lines, 1) if bound.match(text)}
    kept |= {
        more
        for index, text in enumerate(lines, 1)
        if "PoolExecutor(" in text
        for more in range(index, min(index + 4, len(lines) + 1))
    }  # how many threads a pool may have
    return {index: lines[index - 1] for index in sorted(kept)}


def function_around(lines: list[str], number: int) -> tuple[int, int] | None:
    """First and last line of the innermost function around a line, None where there is none or no parse."""
    return max(definitions_around(lines, number, ast.FunctionDef, ast.AsyncFunctionDef), default=None)


def classes_around(lines: list[str], number: int) -> list[int]:
    """The `class` lines around a line: a bare function name does not tell whose method it is."""
    return [first for first, _ in definitions_around(lines, number, ast.ClassDef)]


def definitions_around(lines: list[str], number: int, *kinds: type[ast.stmt]) -> list[tuple[int, int]]:
    tree = parsed("\n".join(lines))
    return [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, kinds) and node.lineno <= number <= (node.end_lineno or node.lineno)
    ]


@lru_cache(maxsize=32)
def parsed(text: str) -> ast.AST:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


# -- lines from a source tree that the user names ------------------------------------------------------

MOST_FILES = 50_000
SKIPPED = {".git", ".venv", "venv", "node_modules", "__pycache__", "site-packages"}


def with_sources(evidence: Evidence, tree: Path) -> Evidence:
    """`evidence` with the lines of the application's frames that are found below `tree`. Raises BadRequest.

    What a bundle or a dump brings of a file was kept at the moment of the hang, so it stays; the tree adds to it where
    the two say the same.
    """
    if not tree.is_dir():
        raise BadRequest(f"{tree} is not a folder.", "--code takes your source tree.", "ls -d */")
    files = python_files(tree)
    frames = {
        frame
        for snapshot in evidence.snapshots
        for thread in snapshot.threads
        for frame in thread.frames
        if frame.line and is_application(frame)
    }
    found: dict[str, dict[int, str]] = {}
    for frame in frames:
        path = best_match(frame, files, tree)
        if path is not None:
            found.setdefault(frame.file, {}).update(excerpt(file_lines(str(path), ""), frame))
    return replace(
        evidence,
        sources={
            **found,
            **{file: merge_lines(known, found.get(file, {})) for file, known in evidence.sources.items()},
        },
    )


def merge_lines(known: Mapping[int, str], lines: dict[int, str]) -> dict[int, str]:
    """`known` and the file's other lines, unless they differ: then it is another version of the file."""
    same = all(lines.get(number, text).strip() == text.strip() for number, text in known.items())
    return {**lines, **{number: lines.get(number, text) for number, text in known.items()}} if same else dict(known)


def python_files(tree: Path) -> list[Path]:
    found = []
    for path in tree.rglob("*.py"):
        if not SKIPPED & set(path.relative_to(tree).parts) and not path.is_symlink():
            found.append(path)
            if len(found) >= MOST_FILES:
                break
    return found


def best_match(frame: Frame, files: list[Path], tree: Path) -> Path | None:
    """The file whose path ends most like the frame's; None where two end alike."""
    wanted = frame.file.replace("\\", "/").split("/")
    scores = sorted(
        (
            (shared_end(wanted, (tree.name, *path.relative_to(tree).parts)), path)
            for path in files
            if path.name == wanted[-1]
        ),
        key=lambda item: -item[0],
    )
    if not scores or (len(scores) > 1 and scores[0][0] == scores[1][0]):
        return None
    return scores[0][1]


def shared_end(wanted: list[str], parts: tuple[str, ...]) -> int:
    count = 0
    for one, other in zip(reversed(wanted), reversed(parts)):
        if one != other:
            break
        count += 1
    return count
