"""Propose a rewrite of one source file, show it as a diff, write it to disk.

Nothing is written unless `write` is called. A file that cannot be read or parsed raises BadSource, and
without libcst `propose` raises MissingTool.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import stat
import sys
import tempfile
import tokenize
from dataclasses import replace
from pathlib import Path
from typing import Iterable, Sequence

from hangdebug.errors import BadSource, MissingTool
from hangdebug.repair.model import Finding, Patch

LIMIT = 500_000  # bytes: 10,000 lines took 19 s, and a longer file is mostly generated
ROUNDS = 5  # two are the rule: one that mends, one that finds nothing more to mend
BROKEN = "but what came out does not parse, which is a fault of this tool: do it by hand"
INSTALL = "python -m pip install libcst"


def propose(path: str | Path, line: int | None = None, only: Iterable[str] = (), exact: bool = False) -> Patch:
    """What the rewrites would make of the file, as a Patch with every finding, rewritten or refused.

    `line` (from 1) limits it to the construct, or else the function, that holds this line; where nothing
    is found there, a refused finding says so and names what was found nearby. With `exact` the function does
    not count. `only` names the rules to use.
    """
    name = str(path)
    before, _ = read(name)
    if line is not None and not 1 <= line <= before.count("\n") + 1:
        last = before.count("\n") + 1
        why = f"It ends at line {last}."
        raise BadSource(f"{name} has no line {line}.", why, f"python scripts/hang.py fix {name}")
    wanted = [rule for rule in rules() if not only or rule.id in only]
    after, findings = attempt(wanted, before, name, line, exact=line is not None)
    if line is not None and not findings and not exact:
        after, findings = attempt(wanted, before, name, line)
    if line is not None and not findings:
        findings = [nothing_at(name, before, line)]
    return Patch(name, before, after, tuple(sorted(findings, key=lambda item: item.line)))


def rules() -> tuple:
    """The rewrites. Raises MissingTool where libcst is not installed."""
    try:
        from hangdebug.repair.rules import RULES
    except ImportError as error:
        raise MissingTool("Rewriting needs the package libcst.", f"{error}.", INSTALL) from error
    return RULES


def attempt(
    wanted: Sequence, before: str, name: str, line: int | None, exact: bool = False
) -> tuple[str, list[Finding]]:
    """What the rules make of the text, and every finding with its line in the text as it was.

    What one rule mends may be what kept another from its place (a lock that is held, an exit that waits), so they
    run until nothing changes: a second run over the file finds nothing new.
    """
    from libcst import ParserSyntaxError

    from hangdebug.repair.rules import fault, moved, onto

    after, mended, done = before, [], {}
    try:
        for _ in range(ROUNDS):
            there = line and moved(before, after, line)
            now, findings = once(wanted, after, name, there, exact, done)
            findings = [onto(item, after, before) for item in findings]
            mended += [item for item in findings if not item.refused]
            if now == after:
                break
            after = now
        return after, mended + [item for item in findings if item.refused]
    except (ParserSyntaxError, SyntaxError) as error:
        known = (getattr(error, "raw_line", None) or getattr(error, "lineno", 1), getattr(error, "message", str(error)))
        where, why = fault(before, *known)
        raise BadSource(f"{name}:{where} is not valid Python.", why, f"python -m py_compile {name}") from error
    except (RecursionError, MemoryError) as error:
        why = "An expression nests deeper than the parser can follow."
        raise BadSource(f"{name} cannot be parsed.", why, "repair it by hand after a snippet") from error
    except KeyError as error:  # of libcst, whose clean-up stumbles where Ctrl-C arrives in the middle of it
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__context__
        raise (cause or error) from None


def once(wanted: Sequence, text: str, name: str, line: int | None, exact: bool, done: dict) -> tuple:
    """Each rule on what the rules before it made: the text, and the findings with lines as in the text given.

    `done` keeps for a slow rule what it made and what it refused, so that it need not read its own text again.
    """
    from hangdebug.repair.rules import check_depth, each_once, moved, onto, parses, with_imports

    after, findings, imports, seen, slow = text, [], set(), check_depth(text), None
    for rule in wanted:
        if not rule.concerns(text, seen):
            continue
        if rule.id in done and done[rule.id][0] == after:
            findings += done[rule.id][1]
            continue
        there = line and moved(text, after, line)
        changed, found = rule.rewrite(after, name, there, exact=exact, imports=imports)
        if changed != after and seen is not None and not parses(changed):  # a fault of the rule: leave it alone
            changed, found = after, [replace(item, refused=True, message=f"{item.message}: {BROKEN}") for item in found]
        findings += [onto(item, after, text) for item in found]
        slow = (rule.id, after, changed, found) if rule.slow else slow
        after = changed
    made = with_imports(after, imports)
    if slow and slow[2] == after:  # no rule changed the text behind it
        done[slow[0]] = made, [onto(item, slow[1], made) for item in slow[3] if item.refused]
    return made, each_once(findings)


def newer(patch: Patch) -> str:
    """What to say of a file that only libcst can parse, "" for any other."""
    from hangdebug.repair.rules import tree_of

    try:
        tree_of(patch.before)
    except SyntaxError as error:
        version = ".".join(map(str, sys.version_info[:2]))
        return (
            f"{patch.file}:{error.lineno} is written for a newer Python than the {version} that runs this; only the rule "
            "nonblocking_executor looked at it. Run this with the Python of the file"
        )
    return ""


def nothing_at(name: str, source: str, line: int) -> Finding:
    """Why a given line leads to nothing: what stands there, and where something was found."""
    text = source.split("\n")[line - 1].strip() or "an empty line"
    elsewhere = attempt(rules(), source, name, None)[1]
    if elsewhere:
        nearest = sorted(elsewhere, key=lambda item: abs(item.line - line))[:3]
        hint = "elsewhere in it: " + "; ".join(f"line {item.line}: {item.message}" for item in nearest)
    else:
        hint = "nothing else in this file is a construct that a rewrite knows"
    message = f"nothing to rewrite at `{text}` or in the function around it; {hint}"
    return Finding("fix", name, line, message, refused=True)


def diff(patch: Patch) -> str:
    """The unified diff with a/ and b/ headers, as `git apply` and `patch -p1` take it; "" where none."""
    path = Path(patch.file)
    if path.is_absolute() and Path.cwd() in path.parents:
        path = path.relative_to(Path.cwd())
    name = path.as_posix().lstrip("/")
    name += "\t" if " " in name else ""  # as git does, or the name would end at the space
    old, new = (io.StringIO(text, newline="\n").readlines() for text in (patch.before, patch.after))
    lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
    marked = (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    return "".join(marked)


def write(patch: Patch) -> None:
    """Put `patch.after` on disk in one step: the file is the old one or the new one, never half of each.

    Mode bits and encoding stay; a symlink stays and its target is replaced. Raises BadSource if the file
    changed since it was read, or is not writable.
    """
    target = os.path.realpath(patch.file)
    now, encoding = read(target)
    if now != patch.before:
        what, why = f"{patch.file} changed meanwhile; nothing was written.", "It is not what was read before."
        raise BadSource(what, why, f"python scripts/hang.py fix {patch.file}")
    facts = os.stat(target)
    if not facts.st_mode & 0o222:
        raise BadSource(f"{patch.file} is read-only; it was not rewritten.", "", f"chmod u+w {patch.file}")
    if not patch.changed:
        return
    try:
        put(target, patch.after.encode(encoding), facts)
    except OSError as error:
        why = f"{error.strerror}: a new file is written next to the old one, then takes its place."
        folder = os.path.dirname(target)
        raise BadSource(f"{patch.file} cannot be written.", why, f"ls -ld {folder}") from error


def put(target: str, content: bytes, facts: os.stat_result) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".hang-fix-")
    try:
        with os.fdopen(descriptor, "wb") as output:
            output.write(content)
            output.flush()
            if (facts.st_uid, facts.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(output.fileno(), facts.st_uid, facts.st_gid)  # root mends a user's file
            os.fchmod(output.fileno(), stat.S_IMODE(facts.st_mode))  # after fchown, which clears bits
            os.fsync(output.fileno())
        os.replace(temporary, target)
    except BaseException:  # Ctrl-C too leaves nothing behind
        with contextlib.suppress(FileNotFoundError):  # it has taken its place already
            os.unlink(temporary)
        raise


def read(name: str) -> tuple[str, str]:
    """The text, its line endings kept, and the encoding that gives its bytes back. Raises BadSource."""
    try:
        facts = os.stat(name)
        if not stat.S_ISREG(facts.st_mode):
            kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "no regular file"
            why = "One source file is rewritten at a time."
            raise BadSource(f"{name} is {kind}.", why, "python scripts/hang.py fix app.py")
        if facts.st_size > LIMIT:
            why = f"It has {facts.st_size:,} bytes; up to {LIMIT:,} are parsed."
            raise BadSource(f"{name} is too large.", why, "repair it by hand after a snippet")
        content = Path(name).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        why = getattr(error, "strerror", None) or str(error)
        raise BadSource(f"{name} cannot be read.", why, f"ls -l {name}") from error
    if b"\0" in content:
        raise BadSource(f"{name} is not Python source.", "It holds null bytes.", f"file {name}")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        return content.decode(encoding), encoding
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        why = f"{error}. Python reads it as UTF-8, or as its coding line says."
        raise BadSource(f"{name} cannot be decoded.", why, f"file {name}") from error
