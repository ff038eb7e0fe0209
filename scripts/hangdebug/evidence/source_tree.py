"""Lines of source for a dump or a bundle, from a tree that the user names.

No other file is opened because a dump names it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Mapping

from hangdebug.errors import BadRequest
from hangdebug.evidence.excerpts import excerpt, file_lines
from hangdebug.evidence.frames import is_application
from hangdebug.evidence.model import Evidence, Frame

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
    if not scores or len(scores) > 1 and scores[0][0] == scores[1][0]:
        return None
    return scores[0][1]


def shared_end(wanted: list[str], parts: tuple[str, ...]) -> int:
    count = 0
    for one, other in zip(reversed(wanted), reversed(parts)):
        if one != other:
            break
        count += 1
    return count
