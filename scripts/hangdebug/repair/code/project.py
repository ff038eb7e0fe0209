"""The project around a file: its other Python files, the oldest Python that it supports, how it lays out its lines.

[project]                             `asyncio.to_thread` and `cancel_futures` need Python 3.9, so that a
requires-python = ">=3.8"             rewrite does without them here
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass

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
    width = int(widths[0]) if widths and widths[0].isdigit() else 0
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
