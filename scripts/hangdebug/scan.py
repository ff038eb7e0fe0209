"""Run the rewrites over files and folders: one diff for a tree, or a list of what they would do.

A folder is searched for `*.py`; hidden folders, virtual environments and installed packages are left out. What
cannot be read or parsed in there is said and skipped; a file that you name yourself must be readable.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator
from urllib.parse import quote

from hangdebug import __version__
from hangdebug.errors import BadSource
from hangdebug.fix import propose, rules
from hangdebug.model import Finding, Patch

SKIPPED = frozenset("__pycache__ node_modules site-packages dist-packages".split())
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True)
class Place:
    """A file or folder as it was named, and the line (from 1) if one was."""

    path: str
    line: int | None = None


def place(text: str) -> Place:
    """`app.py:14` is line 14 of app.py, unless a file has that very name."""
    head, colon, tail = text.rpartition(":")
    return Place(head, int(tail)) if colon and tail.isdigit() and not Path(text).exists() else Place(text)


def patches(places: Iterable[Place], skipped: list[str], only: Iterable[str] = ()) -> Iterator[Patch]:
    """A Patch for each file, once, in order of their paths. What a folder holds and cannot be parsed goes to `skipped`."""
    seen: set[str] = set()
    for one in places:
        folder = Path(one.path).is_dir() and one.line is None
        for path in python_files(one.path) if folder else [one.path]:
            real = os.path.realpath(path)
            if real in seen and one.line is None:
                continue
            seen.add(real)
            try:
                yield propose(path, one.line, only)
            except BadSource as error:
                if not folder:
                    raise
                skipped.append(f"{error.what} {error.why}".strip())


def python_files(folder: str) -> Iterator[str]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not hidden(here, name))
        for name in sorted(files):
            if name.endswith(".py") and not name.startswith("."):
                yield os.path.join(here, name)


def hidden(here: str, name: str) -> bool:
    return name.startswith(".") or name in SKIPPED or os.path.exists(os.path.join(here, name, "pyvenv.cfg"))


# -- the list as JSON --------------------------------------------------------------------------------------


def as_json(findings: Iterable[Finding], skipped: Iterable[str]) -> str:
    """Schema version 1: `findings` with file, line, rule, refused and message, and `skipped`, in words."""
    rows = [{"file": item.file, "line": item.line, "rule": item.rule, "refused": item.refused, "message": item.message}
            for item in findings]
    return json.dumps({"schema_version": 1, "findings": rows, "skipped": list(skipped)}, indent=2)


def as_sarif(findings: Iterable[Finding]) -> str:
    """SARIF 2.1.0, as code scanning takes it: what blocks is a warning, what is only deprecated a note."""
    known = [{"id": rule.id, "shortDescription": {"text": rule.about}} for rule in rules()]
    results = [{
        "ruleId": item.rule, "level": "warning" if item.rule != "lifespan" else "note",
        "message": {"text": f"{'Not rewritten: ' if item.refused else ''}{item.message}"},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri(item.file)}, "region": {"startLine": item.line}}}],
    } for item in findings]
    driver = {"name": "backend-hang-debug", "version": __version__, "rules": known}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0",
                       "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}]}, indent=2)


def uri(file: str) -> str:
    """Relative to the working directory where it is below that, as code scanning wants it."""
    path = Path(os.path.abspath(file))
    inside = Path.cwd() in path.parents
    return quote(path.relative_to(Path.cwd()).as_posix()) if inside else path.as_uri()
