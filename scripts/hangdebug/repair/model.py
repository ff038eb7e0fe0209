"""The nouns of the repair: a finding in a source, a proposed edit, a timed request."""

from __future__ import annotations

from collections.abc import Iterable

from hangdebug.evidence.light import dataclass


@dataclass(frozen=True)
class Finding:
    """One place in a source file that a rewrite would change, or refuses to change and why.

    `stays` says what the rewrite leaves unmended and what to do about it by hand, "" where nothing is left.
    `code` is that of the rule, "" for a note that no rule made; `source` the line's own text, without its margin.
    `cell` is the cell of a notebook, from 1, in which `line` counts; 0 in any other file.
    """

    rule: str
    file: str
    line: int
    message: str
    refused: bool = False
    stays: str = ""
    code: str = ""
    source: str = ""
    cell: int = 0

    def __str__(self) -> str:
        rule = f"{self.code} [{self.rule}] " if self.code else ""
        return f"{self.place}: {rule}{'refused: ' if self.refused else ''}{self.message}"

    @property
    def place(self) -> str:
        return f"{self.file}:{f'cell {self.cell}:' if self.cell else ''}{self.line}"


@dataclass(frozen=True)
class Patch:
    """A proposed edit of one file. `before` and `after` are whole texts; they are equal if nothing changes.

    `encoding` gives the bytes of a text that came by standard input.
    """

    file: str
    before: str
    after: str
    findings: tuple[Finding, ...] = ()
    encoding: str = "utf-8"

    @property
    def changed(self) -> bool:
        return self.before != self.after

    @property
    def stays(self) -> tuple[str, ...]:
        """What the edit leaves unmended, a line for each place, in order."""
        return tuple(dict.fromkeys(item.stays for item in self.findings if item.stays))


@dataclass(frozen=True)
class Probe:
    """One timed request. `status` is None where no answer came by the deadline; times are in seconds.

    `phase` says when it was sent ("baseline", "while streaming", "after aborts"), `at` is seconds since
    the first probe, `command` the curl line that repeats it.
    """

    url: str
    phase: str
    status: int | None
    seconds: float
    at: float
    ok: bool
    command: str


# -- edits: nothing outside of their spans changes, so that formatting and comments stay -----------------


@dataclass(frozen=True)
class Edit:
    """`text[start:end]` becomes `new`; where `start` equals `end`, it is put in."""

    start: int
    end: int
    new: str


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text after all edits, which must not overlap; at one place they are made in the order given."""
    parts, at = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        assert at <= edit.start, "two edits overlap"
        parts += [text[at : edit.start], edit.new]
        at = edit.end
    return "".join([*parts, text[at:]])
