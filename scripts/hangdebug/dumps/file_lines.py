"""The frame that Python itself prints, `File "app.py", line 3, in f`, and its kin. Many formats share it."""

from __future__ import annotations

import re

from hangdebug.model import Frame

FUNCTION = r"(?P<function><[\w ]{1,40}>|[\w.<>$-]{1,300})"
LINE = re.compile(r'File "(?P<file>[^"\n]{1,1000})"(?:,? line (?P<line>\d{1,9}|\?{1,3}))?'
                  r"(?:,? in " + FUNCTION + r")?"
                  r"(?P<native> \([^()]{1,500}\))?")
NOTE = re.compile(r"^\s{0,20}(?P<note>\S.{0,500})?$")


def frames(line: str) -> list[Frame]:
    """The frames of a line, however decorated: one, none, or several joined."""
    if 'File "' not in line:
        return []
    found = [one for one in LINE.finditer(line) if one["line"] or one["function"]]
    made = [Frame(one["function"] or "?", one["file"], number(one["line"])) for one in found]
    if len(made) == 1:
        said = NOTE.match(line[found[0].end():])
        made[0] = Frame(made[0].function, made[0].file, made[0].line, (said["note"] or "").strip() if said else "")
    return made


def without_comma(line: str) -> list[Frame]:
    """faulthandler's own way: `File "app.py", line 3 in f`."""
    return [] if 'File "' in line and re.search(r'", line [\d?]{1,9}, in ', line) else frames(line)


def with_comma(line: str) -> list[Frame]:
    return [] if 'File "' in line and re.search(r'", line [\d?]{1,9} in ', line) else frames(line)


def number(text: str | None) -> int | None:
    return int(text) or None if text and text.isdigit() else None
