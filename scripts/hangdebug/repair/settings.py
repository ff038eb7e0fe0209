"""Which rules look at which files: the command line, and `[tool.hang]` of the project's pyproject.toml.

    [tool.hang]
    select = ["HNG"]                      codes, beginnings of codes, names of rules, or ALL
    ignore = ["HNG008"]
    exclude = ["migrations", "vendor/*"]  beside hidden folders, virtual environments and installed packages
    baseline = "hang-baseline.json"

    [tool.hang.per-file-ignores]
    "tests/*" = ["HNG002"]

Where two entries name a rule, the longer one counts; of two that are as long, the one that ignores. A `select` of the
command line takes the place of the file's `select` and `ignore`. A pattern with a slash is matched against the path
from the file's folder, any other against each name of the path.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hangdebug.errors import BadRequest, ours
from hangdebug.repair.rules import RULES, Rule

KEYS = ("select", "ignore", "exclude", "per-file-ignores", "baseline")
Ignores = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Patterns:
    """Where the patterns count from, which files they leave out, and the rules that those of others go without."""

    root: str
    exclude: tuple[str, ...] = ()
    per_file: Ignores = ()


@dataclass(frozen=True)
class Settings:
    """`baseline` is the path of the list of what is known, "" where there is none."""

    select: tuple[str, ...] = ("ALL",)
    ignore: tuple[str, ...] = ()
    patterns: tuple[Patterns, ...] = ()
    baseline: str = ""
    rules: tuple[Rule, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        chosen = [rule for rule in RULES if strength(rule, self.select) > strength(rule, self.ignore)]
        object.__setattr__(self, "rules", tuple(chosen))

    def ids_for(self, path: str) -> tuple[str, ...]:
        """The rules that look at the file, in their order."""
        without = [code for each in self.patterns for glob, codes in each.per_file if is_match(path, each.root, glob)
                   for code in codes]  # fmt: skip
        return tuple(rule.id for rule in self.rules if strength(rule, without) < 0)

    def leaves_out(self, path: str) -> bool:
        return any(is_match(path, each.root, glob) for each in self.patterns for glob in each.exclude)


def strength(rule: Rule, entries: Iterable[str]) -> int:
    """How much of the rule's code the longest entry names that means it; -1 where none does."""
    named = [0 if each == "ALL" else len(rule.code) if each == rule.id else len(each)
             for each in entries if each in ("ALL", rule.id) or rule.code.startswith(each)]  # fmt: skip
    return max(named, default=-1)


def is_match(path: str, root: str, glob: str) -> bool:
    """Whether the pattern means the path, or a folder that it is in."""
    glob = os.path.normpath(glob)
    globs = (glob, glob[3:]) if glob.startswith("**/") else (glob,)
    parts = os.path.relpath(os.path.abspath(path), root).split(os.sep)
    inside = parts[0] != os.pardir
    heads = ["/".join(parts[: count + 1]) for count in range(len(parts))] if inside else []
    return any(fnmatch(each, glob) for glob in globs for each in (parts if "/" not in glob else heads))


def no_rule(name: str) -> BadRequest:
    known = ", ".join(f"{rule.code} ({rule.id})" for rule in RULES)
    return BadRequest(f"There is no rule {name}.", f"The rules are {known}.", ours("fix", "--help"))


# -- where they come from --------------------------------------------------------------------------------------


def settings_for(arguments: argparse.Namespace) -> Settings:
    """What the flags of `fix` say, upon what the project's file says. Raises BadRequest."""
    here = os.getcwd()
    flags = Patterns(here, split(arguments.exclude), per_file_of(arguments.per_file_ignores or ()))
    file = None if arguments.isolated else arguments.config or project_file(arguments)
    said = table(Path(file)) if file else {}
    if not arguments.isolated and arguments.config and not said:
        raise BadRequest(f"{file} has no settings.", "They stand in its table [tool.hang].", f"grep -n tool {file}")
    root = os.path.dirname(os.path.abspath(file)) if file else here
    ours = Patterns(root, words(said, "exclude", file), ignores_in(said, file))
    select, ignore = words(said, "select", file) or ("ALL",), words(said, "ignore", file)
    if arguments.select:
        select, ignore = split(arguments.select), ()
    ignore += split(arguments.ignore)
    named = (*select, *ignore, *(code for each in (flags, ours) for _, codes in each.per_file for code in codes))
    for entry in named:
        if entry != "ALL" and all(entry != rule.id and not rule.code.startswith(entry) for rule in RULES):
            raise no_rule(entry)
    baseline = arguments.baseline or (os.path.join(root, text(said, "baseline", file)) if "baseline" in said else "")
    return Settings(select, ignore, (flags, ours), baseline)


def project_file(arguments: argparse.Namespace) -> str | None:
    """The nearest pyproject.toml with settings above what was named, no higher than the repository's root."""
    places = [arguments.stdin_filename or os.curdir if each == "-" else each for each in arguments.places]
    above = os.path.commonpath([os.path.abspath(each) for each in places or [os.curdir]])
    for folder in (Path(above), *Path(above).parents):
        if is_told_in(folder / "pyproject.toml"):
            return str(folder / "pyproject.toml")
        if (folder / ".git").exists():
            break
    return None


def is_told_in(path: Path) -> bool:
    try:
        return b"[tool.hang" in path.read_bytes()
    except OSError:
        return False


def table(path: Path) -> Mapping[str, Any]:
    """The table [tool.hang] of the file, {} where it has none. Raises BadRequest."""
    try:
        tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError as error:
        here = ".".join(map(str, sys.version_info[:2]))
        raise BadRequest(
            f"{path} has settings that Python {here} cannot read.",
            "It reads TOML from 3.11 on, or with the package tomli.",
            f"{sys.executable} -m pip install tomli   # or add --isolated, and say it by flags",
        ) from error
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRequest(f"{path} cannot be read.", str(error), f"cat {path}") from error
    said = found.get("tool", {}).get("hang", {}) if isinstance(found.get("tool", {}), dict) else {}
    wrong = sorted(set(said) - set(KEYS)) if isinstance(said, dict) else ["hang"]
    if wrong:
        raise refusal(str(path), wrong[0], f"[tool.hang] has {', '.join(KEYS)}")
    return said


def words(said: Mapping[str, Any], key: str, file: str | None) -> tuple[str, ...]:
    value = said.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise refusal(file, key, "it is a list of strings")
    return tuple(value)


def text(said: Mapping[str, Any], key: str, file: str | None) -> str:
    if not isinstance(said[key], str):
        raise refusal(file, key, "it is a string")
    return str(said[key])


def ignores_in(said: Mapping[str, Any], file: str | None) -> Ignores:
    rows = said.get("per-file-ignores", {})
    if not isinstance(rows, dict):
        raise refusal(file, "per-file-ignores", "it is a table of patterns, each with a list of codes")
    return tuple((glob, words(rows, glob, file)) for glob in rows)


def refusal(file: str | None, key: str, rule: str) -> BadRequest:
    return BadRequest(f"{key} in {file} is not understood.", f"{rule[0].upper()}{rule[1:]}.", f"cat {file}")


def split(flags: Iterable[str] | None) -> tuple[str, ...]:
    """The entries of a flag that may be repeated, and may hold several with commas."""
    return tuple(entry for each in flags or () for entry in each.replace(",", " ").split())


def per_file_of(flags: Iterable[str]) -> Ignores:
    """`tests/*:HNG002,HNG008`, as flake8 takes it. Raises BadRequest."""
    found = []
    for each in flags:
        glob, colon, codes = each.rpartition(":")
        if not colon or not glob or not codes:
            raise BadRequest(
                f"--per-file-ignores {each} is not understood.",
                "It takes a pattern, a colon, and codes.",
                ours("fix", "--check", "--per-file-ignores", "tests/*:HNG002", "."),
            )
        found.append((glob, split([codes])))
    return tuple(found)
