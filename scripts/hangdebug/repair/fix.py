"""Propose a rewrite of one source file, show it as a diff, write it to disk.

Nothing is written unless `write` is called. A file that cannot be read or parsed raises BadSource.
"""

from __future__ import annotations

import difflib
import io
import os
import re
import shlex
import stat
import sys
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from hangdebug import shipped
from hangdebug.errors import BadSource, our_program, ours
from hangdebug.repair.code.file import parse, tree_of
from hangdebug.repair.code.findings import called_in_coroutines, line_moved, renumber, split_lines
from hangdebug.repair.code.layout import with_imports, without_unused
from hangdebug.repair.model import Finding, Patch
from hangdebug.repair.rules import RULES, Rule, each_once

LIMIT = 500_000  # bytes: 10,000 lines took 19 s, and a longer file is mostly generated
ROUNDS = 5  # two are the rule: one that mends, one that finds nothing more to mend
BROKEN = "but what came out does not parse, which is a fault of this tool: do it by hand"
NEWER = {  # what a later version brought, as far as one line shows it
    (3, 10): r"^\s*(match|case)\b.*:",
    (3, 11): r"^\s*except\s*\*",
    (3, 12): r"^\s*type\s+\w+\s*(\[.*\])?\s*=|^\s*((async\s+)?def|class)\s+\w+\s*\[|\b[fF]([\"']).*\{[^{}]*\4[^{}]*\}",
    (3, 14): r"^\s*except\s+[\w.]+\s*,\s*[A-Z]|\b[tT][\"']",
}


def propose(path: str | Path, line: int | None = None, only: Iterable[str] = (), exact: bool = False) -> Patch:
    """What the rewrites would make of the file, as a Patch with every finding, rewritten or refused.

    `line` (from 1) limits it to the construct, or else the function, that holds this line; where nothing
    is found there, a refused finding says so and names what was found nearby. With `exact` the function does
    not count. `only` names the rules to use.
    """
    name = str(path)
    return propose_text(name, read(name)[0], line, only, exact)


def propose_text(
    name: str,
    before: str,
    line: int | None = None,
    only: Iterable[str] = (),
    exact: bool = False,
    listed: bool = False,
) -> Patch:
    """`propose` for a text that need not be on disk. With `listed` only the findings count: `after` is not laid out."""
    rows = split_lines(before)
    last = len(rows)
    if line is not None and not 1 <= line <= last:
        why = f"It ends at line {last}."
        raise BadSource(f"{name} has no line {line}.", why, ours("fix", os.path.abspath(name)))
    wanted = [rule for rule in RULES if not only or rule.id in only]
    after, findings = run_rules(wanted, before, name, line, line is not None, listed)
    if line is not None and not findings and not exact:
        after, findings = run_rules(wanted, before, name, line)
    if line is not None and not findings:
        findings = [nothing_at(name, before, line)]
    found = sorted(findings, key=lambda item: item.line)
    return Patch(name, before, after, tuple(replace(item, source=rows[item.line - 1].strip()) for item in found))


def run_rules(
    wanted: Sequence[Rule], before: str, name: str, line: int | None, exact: bool = False, listed: bool = False
) -> tuple[str, list[Finding]]:
    """What the rules make of the text, and every finding with its line in the text as it was.

    What one rule mends may be what kept another from its place (a lock that is held, an exit that waits), so they
    run until nothing changes: a second run over the file finds nothing new.
    """
    after = before
    mended: list[Finding] = []
    findings: list[Finding] = []
    try:
        called = called_in_coroutines(parse(before, name))
        for _ in range(ROUNDS):
            there = line and line_moved(before, after, line)
            concerned = [rule for rule in wanted if rule.concerns(after, called)]
            now, findings = run_rules_once(concerned, after, name, there, exact)
            findings = [renumber(item, after, before) for item in findings]
            mended += [item for item in findings if not item.refused]
            if now == after:
                break
            after = now
        tidy = after if listed or after == before else laid_out(before, after, name)
        return tidy, mended + [item for item in findings if item.refused]
    except SyntaxError as error:
        if "too many nested" in str(error):
            raise too_deep(name) from error
        raise not_parsed(before, name, error) from error
    except (RecursionError, MemoryError) as error:
        raise too_deep(name) from error


def laid_out(before: str, after: str, name: str) -> str:
    from hangdebug.repair.code.layout import lay_out

    return lay_out(before, without_unused(before, after, name), name)


def run_rules_once(
    wanted: Sequence[Rule], text: str, name: str, line: int | None, exact: bool
) -> tuple[str, list[Finding]]:
    """Each rule on what the rules before it made: the text, and the findings with lines as in the text given."""
    after = text
    findings: list[Finding] = []
    imports: set[str] = set()
    for rule in wanted:
        there = line and line_moved(text, after, line)
        changed, found = rule.rewrite(after, name, there, exact=exact, imports=imports)
        if changed != after and not parses(changed):  # a fault of the rule: leave it alone
            changed = after
            found = tuple(replace(item, refused=True, message=f"{item.message}: {BROKEN}") for item in found)
        findings += [renumber(item, after, text) for item in found]
        after = changed
    return with_imports(after, imports, name), each_once(findings)


def concerns_any(text: str) -> bool:
    """Whether a file without a coroutine, in which nobody is called, has anything for a rule."""
    return "on_event" in text or any(rule.concerns(text, frozenset()) for rule in RULES)


def parses(text: str) -> bool:
    try:
        return bool(tree_of(text))
    except (SyntaxError, RecursionError, MemoryError):
        return False


# -- what cannot be parsed -----------------------------------------------------------------------------------


def too_deep(name: str) -> BadSource:
    why = "An expression nests deeper than the parser can follow."
    return BadSource(
        f"{name} cannot be parsed.",
        why,
        by_hand(),
    )


def not_parsed(text: str, name: str, error: SyntaxError) -> BadSource:
    """Which newer Python the file is written for, or else what Python says is wrong with it."""
    line, here = error.lineno or 1, ".".join(map(str, sys.version_info[:2]))
    row = (split_lines(text)[line - 1 : line] or [""])[0]
    newer = next((each for each in NEWER if sys.version_info < each and re.search(NEWER[each], row)), None)
    if newer is None:
        why = f"Python {here} says: {' '.join(error.msg.split())}."
        return BadSource(f"{name}:{line} is not valid Python.", why, f"python -m py_compile {name}")
    needed = ".".join(map(str, newer))
    why = f"`{row.strip()}` is not known to Python {here}, which runs this."
    again = shlex.join([f"python{needed}", *(our_program()[1:] or ("-m", "hangdebug")), "fix", os.path.abspath(name)])
    return BadSource(f"{name}:{line} needs Python {needed} to be read.", why, again)


def by_hand() -> str:
    return f"ls {shlex.quote(shipped('snippets'))}   # copy a pattern, and repair it by hand"


def nothing_at(name: str, source: str, line: int) -> Finding:
    """Why a given line leads to nothing: what stands there, and where something was found."""
    text = split_lines(source)[line - 1].strip() or "an empty line"
    elsewhere = run_rules(RULES, source, name, None)[1]
    if elsewhere:
        nearest = sorted(elsewhere, key=lambda item: abs(item.line - line))[:3]
        hint = "elsewhere in it: " + "; ".join(f"line {item.line}: {item.message}" for item in nearest)
    else:
        hint = "nothing else in this file is a construct that a rewrite knows"
    message = f"nothing to rewrite at `{text}` or in the function around it; {hint}"
    return Finding("fix", name, line, message, refused=True)


def diff(patch: Patch) -> str:
    """The unified diff with a/ and b/ headers, as `git apply` and `patch -p1` take it; "" where none.

    At its head stands what the edit leaves unmended; these tools skip that.
    """
    path = Path(patch.file)
    if path.is_absolute() and Path.cwd() in path.parents:
        path = path.relative_to(Path.cwd())
    name = path.as_posix().lstrip("/")
    name += "\t" if " " in name else ""  # as git does, or the name would end at the space
    old, new = (io.StringIO(text, newline="\n").readlines() for text in (patch.before, patch.after))
    lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
    marked = (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    return head(patch) + "".join(marked)


def head(patch: Patch) -> str:
    """A line for each thing that the edit leaves unmended."""
    return "".join(f"# stays: {words}\n" for words in patch.stays)


def write(patch: Patch) -> None:
    """Put `patch.after` on disk in one step: the file is the old one or the new one, never half of each.

    Mode bits and encoding stay; a symlink stays and its target is replaced. Raises BadSource if the file
    changed since it was read, or is not writable.
    """
    from hangdebug.files import replace_file  # a list needs none of it, and it takes a fifth of a start

    target = os.path.realpath(patch.file)
    now, encoding = read(target)
    if now != patch.before:
        what, why = f"{patch.file} changed meanwhile; nothing was written.", "It is not what was read before."
        raise BadSource(what, why, ours("fix", os.path.abspath(patch.file)))
    facts = os.stat(target)
    if not facts.st_mode & 0o222:
        raise BadSource(f"{patch.file} is read-only; it was not rewritten.", "", f"chmod u+w {patch.file}")
    if not patch.changed:
        return
    if facts.st_nlink > 1:
        why = f"It has {facts.st_nlink} names (hard links), and the others would keep the old text."
        alone = (
            f"cp {shlex.quote(target)} {shlex.quote(target)}.own && mv {shlex.quote(target)}.own {shlex.quote(target)}"
        )
        raise BadSource(f"{patch.file} is one of several names of a file; it was not rewritten.", why, alone)
    try:
        replace_file(Path(target), patch.after.encode(encoding), facts)
    except OSError as error:
        why = f"{error.strerror}: a new file is written next to the old one, then takes its place."
        folder = os.path.dirname(target)
        raise BadSource(f"{patch.file} cannot be written.", why, f"ls -ld {folder}") from error


def read(name: str) -> tuple[str, str]:
    """The text, its line endings kept, and the encoding that gives its bytes back. Raises BadSource."""
    try:
        facts = os.stat(name)
        if not stat.S_ISREG(facts.st_mode):
            kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "no regular file"
            why = "One source file is rewritten at a time."
            raise BadSource(f"{name} is {kind}.", why, ours("fix", "app.py"))
        if facts.st_size > LIMIT:
            why = f"It has {facts.st_size:,} bytes; up to {LIMIT:,} are parsed."
            raise BadSource(
                f"{name} is too large.",
                why,
                by_hand(),
            )
        content = Path(name).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        why = getattr(error, "strerror", None) or str(error)
        raise BadSource(f"{name} cannot be read.", why, f"ls -l {name}") from error
    return decode(name, content)


def decode(name: str, content: bytes) -> tuple[str, str]:
    """See `read`, for bytes that came from elsewhere."""
    if b"\0" in content:
        raise BadSource(f"{name} is not Python source.", "It holds null bytes.", f"file {name}")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        return content.decode(encoding), encoding
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        why = f"{error}. Python reads it as UTF-8, or as its coding line says."
        raise BadSource(f"{name} cannot be decoded.", why, f"file {name}") from error
