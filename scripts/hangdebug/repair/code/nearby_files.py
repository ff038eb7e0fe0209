"""The Python files of a folder, and those that stand in the same tree as a file."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

SKIPPED = frozenset("__pycache__ node_modules site-packages dist-packages".split())
MOST_FILES = 2000  # of a tree that is looked through for what else uses a name


def other_files(name: str) -> Iterator[tuple[Path, bytes]]:
    """The other Python files of the tree that a file stands in, each with its content; none where it is no file.

    The tree is the folder that holds the outermost package around the file, up to MOST_FILES of it.
    """
    path = Path(name)
    if not path.is_file():
        return
    path = path.resolve()
    root = path.parent
    while (root / "__init__.py").exists():
        root = root.parent
    for other in files_below(root):
        if other != path:
            with contextlib.suppress(OSError):
                yield other, other.read_bytes()


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
