"""Frames whose file, function and line stand beside each other, with colons or blanks between them.

    140302382565184:                                          pyflame
    /usr/lib64/python3.6/threading.py:join:1056
    tests/dijkstra.py:main:200

    app/worker.py:93: in run          app/worker.py:93 run          app/worker.py:93:run
    app/worker.py in run at line 93   In App                         an error tracker's list
    run.py:main > app/worker.py:run > socket.py:readinto             a chain on one line
    > /srv/app/worker.py(93)run()                                    pdb's `where`
    <frame at 0x7f01, file '/srv/app/worker.py', line 93, code run>  a frame's own repr

No line of them means much alone, so a lone one without a head is no stack.
"""

from __future__ import annotations

from collections.abc import Iterable

from hangdebug.evidence import light as re
from hangdebug.evidence.dumps import grammar as stacks
from hangdebug.evidence.dumps import printouts, pyspy_text
from hangdebug.evidence.dumps.grammar import Grammar, Head
from hangdebug.evidence.model import Frame, Snapshot

IDENT = re.compile(r"^\s{0,12}(?P<id>\d{1,20})\*?:$")
QUOTED = re.compile(
    r'^"(?P<id>[^"\n]{1,100})"(?: #\d{1,6})?(?: \w{1,20}=\S{1,40}){1,8}(?: [A-Z_]{3,30})?(?: \([\w ]{1,40}\))?$'
)
FILE = r"^\s{0,40}(?P<file>(?:[A-Za-z]:)?[^\s:;\"'()]{1,500}\.pyx?|<[^<>:]{1,200}>):"
IN_APP = r"(?:\s+[\[(]?(?i:(?:not )?in[ _]app)[\])]?)"
FUNCTION = r"(?P<function><?[A-Za-z_][\w.<>]{0,300}>?)(?:\(\))?$"
SHAPES = (
    re.compile(FILE + r"(?P<function><?[A-Za-z_][\w.<>]{0,300}>?):(?P<line>\d{1,9})$"),
    re.compile(FILE + r"(?P<line>\d{1,9})(?:: in | in |: ?| {1,4})" + FUNCTION),
    re.compile(
        r"^\s{0,40}(?P<file>[^\s:;\"'()]{1,500}\.pyx?) {1,4}in (?P<function><?[A-Za-z_][\w.<>]{0,300})"
        r"(?: at line |:| line )(?P<line>\d{1,9})" + IN_APP + "?$"
    ),
    re.compile(  # the same, with a module's name in place of a file's
        r"^\s{0,40}(?P<file>[\w./-]{1,300}) {1,4}in (?P<function><?[A-Za-z_][\w.<>]{0,300}) at line (?P<line>\d{1,9})"
        + IN_APP
        + "?$"
    ),
    re.compile(  # a debugger's `where`
        r"^[>\s]{0,4}(?P<file>(?:/|[A-Za-z]:\\|<)[^()\n]{1,500})\((?P<line>\d{1,9})\)"
        r"(?P<function><?[A-Za-z_][\w.<>]{0,300})\([^()\n]{0,300}\)(?:->.{0,200})?$"
    ),
    re.compile(  # as a JVM prints them
        r"^\s{1,40}at (?P<function><?[A-Za-z_][\w.<>]{0,300})\((?P<file>[^\s:;\"'()]{1,500}\.pyx?):(?P<line>\d{1,9})\)$"
    ),
    re.compile(  # an IDE's list: recv, socket.py:706
        r"^\s{0,40}(?P<function><?[A-Za-z_][\w.<>]{0,300}), (?P<file>[^\s:;\"'()]{1,500}\.pyx?):(?P<line>\d{1,9})$"
    ),
    re.compile(  # and another's: socket.py!readinto(self, b) Line 706
        r"^\s{0,40}(?P<file>[^\s:;\"'()!]{1,500}\.pyx?)!(?P<function><?[A-Za-z_][\w.<>]{0,300})\([^()\n]{0,300}\) "
        r"Line (?P<line>\d{1,9})\b.{0,20}$"
    ),
    re.compile(  # a row of a table
        r"^\s{0,12}\|(?:\s*\d{1,4}\s*\|)?\s*(?P<function><?[A-Za-z_][\w.<>]{0,300})\s*\|\s*"
        r"(?P<file>[^\s|]{1,500}\.pyx?)\s*\|\s*(?P<line>\d{1,9})\s*\|?$"
    ),
    re.compile(
        r"^\s{0,40}(?:\d{1,4}[.)]\s{1,8}|[*-]\s{1,8}|at\s)?(?P<function><?[A-Za-z_][\w.<>]{0,300}) in "
        r"(?P<file>[^\s:;\"'()]{1,500}\.pyx?):(?P<line>\d{1,9})(?:\s+(?:[-:#]+\s+)?(?P<text>\S.{0,300}))?$"
    ),
)
LINKS = (
    re.compile(  # a frame's own repr, as `Task.get_stack()` and `sys._current_frames()` give it
        r"<frame at 0x[0-9a-fA-F]{1,16}, file '(?P<file>[^'\n]{1,500})', line (?P<line>\d{1,9}), "
        r"code (?P<function>[\w.<>]{1,300})>"
    ),
    re.compile(
        r"(?P<file>[\w./\\-]{1,300}\.py):(?P<function><?[A-Za-z_][\w.]{0,200}>?)(?::(?P<line>\d{1,9}))?"
        r"(?=\s*(?:->|<-|=>|>|<|\u2192|\u2190|;|,|$))"
    ),
)
RAISED = re.compile(r"(?:Error|Exception|Warning|Failed|Interrupt|Skipped|Exit)$")


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a sample; () where a single frame is all. Python's ident stands for a thread's name."""
    found = stacks.read(lines, GRAMMAR)
    seen = [one for snapshot in found for one in snapshot.threads if one.frames]
    return found if sum(len(one.frames) for one in seen) > 1 or any(one.name for one in seen) else ()


def head(line: str) -> Head | None:
    ident = IDENT.match(line[:100]) or QUOTED.match(line[:200])
    return Head("thread", ident["id"]) if ident else printouts.head(line) or pyspy_text.head(line)


def frames(line: str) -> list[Frame]:
    if not any(mark in line for mark in (".py", "<", " at line ")) or len(line) > 1000:
        return []
    reprs, links = (list(shape.finditer(line)) for shape in LINKS)
    links = reprs or (links if len(links) > 1 else [])
    if links:
        return [Frame(one["function"], one["file"], int(one["line"] or 0) or None) for one in links]
    found = next((one for shape in SHAPES for one in [shape.match(line.rstrip())] if one), None)
    if found is None or RAISED.search(found["function"]):
        return []
    text = found.groupdict().get("text") or ""
    return [Frame(found["function"], found["file"], int(found["line"]) or None, text=text if "(" in text else "")]


GRAMMAR = Grammar("file:function:line", head, frames)
