"""Keep the lines around the application's frames: the function that each stands in, and what its names are bound to."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from hangdebug.errors import BadRequest
from hangdebug.evidence import light as re
from hangdebug.evidence.frames import is_application, is_known_library
from hangdebug.evidence.model import Evidence, Frame, Snapshot

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
    seen = f"{process}/root{file}" if file.startswith("/") else f"{process}/cwd/{file}"
    for path in (seen, file) if process else (file,):
        try:
            with open(path, encoding="utf-8", errors="replace") as opened:
                return opened.read(MOST_BYTES).splitlines()
        except (OSError, ValueError):
            continue
    return []


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
