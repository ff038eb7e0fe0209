"""Run the rewrites over files and folders: one diff for a tree, or a list of what they would do.

A folder is searched for `*.py`; hidden folders, virtual environments and installed packages are left out. What
cannot be read or parsed in there is said and skipped; a file that you name yourself must be readable.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from hangdebug import __version__
from hangdebug.errors import BadRequest, BadSource, ours
from hangdebug.evidence.light import dataclass
from hangdebug.repair.callers import hand_callers_to_threads, no_caller_found, plain_function_at
from hangdebug.repair.code.project import python_files
from hangdebug.repair.fix import propose
from hangdebug.repair.model import Finding, Patch
from hangdebug.repair.rules import RULES

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True)
class Place:
    """A file or folder as it was named, and the line (from 1) if one was."""

    path: str
    line: int | None = None


def parse_place(text: str) -> Place:
    """`app.py:14` is line 14 of app.py, unless a file has that very name."""
    head, colon, tail = text.rpartition(":")
    return Place(head, int(tail)) if colon and tail.isdigit() and not Path(text).exists() else Place(text)


def patches_for(places: Sequence[str], diagnosis: str | None, skipped: list[str]) -> Iterator[Patch]:
    """The patches for the places, or for the blocking frame of a diagnosis in JSON. See `patches` for `skipped`."""
    if diagnosis is not None:
        spot, fix = from_diagnosis(diagnosis)
        return iter(patches_where_it_blocks(spot, fix))
    named = [parse_place(text) for text in places]
    lines = all(one.line for one in named) and len(named) == 1
    return iter(patches_where_it_blocks(named[0], "")) if lines else patches(named, skipped)


def from_diagnosis(text: str) -> tuple[Place, str]:
    """The blocking frame of a diagnosis in JSON, and the rewrite for its cause or "". Raises BadRequest."""
    again = f"{ours('diagnose', '--pid', 'PID', '--json')} > diagnosis.json"
    try:
        answer = json.loads(text)
        frame = answer["blocking_frame"]
        file, line = str(frame["file"]), frame["line"]
        fix = (answer.get("remedy") or {}).get("fix") or ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRequest(
            "It names no blocking frame.", "It is no diagnosis in JSON, or none was found.", again
        ) from error
    if not Path(file).is_file():
        raise BadRequest(
            f"The blocking frame is in {file}, which is not here.",
            "The diagnosis was made on another machine, or from short names.",
            ours("fix", f"YOUR/COPY/OF/{Path(file).name}:{line}"),
        )
    return Place(file, line if isinstance(line, int) else None), fix


def patches_where_it_blocks(one: Place, fix: str) -> list[Patch]:
    """The patches for a line that was seen to block: of the coroutine around it, or of those that call its function.

    `fix` is the rewrite that suits the cause; where it finds nothing, or none is named, every rule is tried.
    """
    name = plain_function_at(one.path, one.line) if one.line else ""
    if one.line and name and not found_anything(propose(one.path, one.line, exact=True)):
        moved, handed = hand_callers_to_threads(one.path, one.line, list(python_files(tree_around(one.path))))
        if moved or handed:
            return moved
    patch = propose(one.path, one.line, (fix,)) if fix else None
    patch = patch if patch and found_anything(patch) else propose(one.path, one.line)
    if one.line and name and not found_anything(patch):
        patch = replace(patch, findings=(no_caller_found(one.path, one.line, name),))
    return [patch]


def found_anything(patch: Patch) -> bool:
    """Whether a rule found anything, and not only the note that nothing stands there."""
    return any(item.rule != "fix" for item in patch.findings)


def tree_around(path: str) -> str:
    """The folder whose files may call what the file defines: that of the outermost package, or the current one."""
    folder = Path(path).resolve().parent
    while (folder / "__init__.py").exists():
        folder = folder.parent
    inside = Path.cwd() == folder or Path.cwd() in folder.parents
    return os.curdir if inside else str(folder)


def patches(places: Iterable[Place], skipped: list[str], only: Iterable[str] = ()) -> Iterator[Patch]:
    """A Patch for each file, once, in order of their paths. What cannot be parsed in a folder goes to `skipped`."""
    seen: set[str] = set()
    for one in places:
        folder = Path(one.path).is_dir() and one.line is None
        for path in python_files(one.path) if folder else [one.path]:
            real = os.path.realpath(path)
            if real in seen and one.line is None:
                continue
            seen.add(real)
            try:
                with no_garbage_collection():
                    patch = propose(path, one.line, only)
                yield patch
            except BadSource as error:
                if not folder:
                    raise
                skipped.append(f"{error.what} {error.why}".strip())


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Without the garbage collector, which finds nothing in a syntax tree and takes a fifth of the time to look."""
    ran = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if ran:
            gc.enable()


# -- the list ----------------------------------------------------------------------------------------------


class Form(Protocol):
    """How the list is asked for: the flags of the command line."""

    json: bool
    sarif: bool


def write_list(findings: Sequence[Finding], skipped: Sequence[str], form: Form) -> str:
    """A line for each finding, or JSON or SARIF where `form.json` or `form.sarif` says so."""
    if form.json:
        return as_json(findings, skipped) + "\n"
    return as_sarif(findings) + "\n" if form.sarif else "".join(f"{item}\n" for item in findings)


def as_json(findings: Iterable[Finding], skipped: Iterable[str]) -> str:
    """Schema version 1: `findings` with file, line, rule, refused, message and stays, and `skipped`, in words."""
    rows = [
        {
            "file": item.file,
            "line": item.line,
            "rule": item.rule,
            "refused": item.refused,
            "message": item.message,
            "stays": item.stays,
        }
        for item in findings
    ]
    return json.dumps({"schema_version": 1, "findings": rows, "skipped": list(skipped)}, indent=2)


def as_sarif(findings: Iterable[Finding]) -> str:
    """SARIF 2.1.0, as code scanning takes it: what blocks is a warning, what is only deprecated a note."""
    known = [{"id": rule.id, "shortDescription": {"text": rule.about}} for rule in RULES]
    results = [
        {
            "ruleId": item.rule,
            "level": "warning" if item.rule != "lifespan" else "note",
            "message": {"text": f"{'Not rewritten: ' if item.refused else ''}{item.message}"},
            "locations": [
                {"physicalLocation": {"artifactLocation": {"uri": uri(item.file)}, "region": {"startLine": item.line}}}
            ],
        }
        for item in findings
    ]
    driver = {"name": "backend-hang-debug", "version": __version__, "rules": known}
    return json.dumps(
        {
            "$schema": SCHEMA,
            "version": "2.1.0",
            "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
        },
        indent=2,
    )


def uri(file: str) -> str:
    """Relative to the working directory where it is below that, as code scanning wants it."""
    path = Path(os.path.abspath(file))
    inside = Path.cwd() in path.parents
    return quote(path.relative_to(Path.cwd()).as_posix()) if inside else path.as_uri()
