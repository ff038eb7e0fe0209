"""The commands that the product prints: found in its words, and read as a shell and as argparse do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from hangdebug.answer.model import Diagnosis
from hangdebug.cli import command_line
from hangdebug.errors import our_program

VALUES = {"PID": "4284", "PORT": "8000", "HEALTH_URL": "http://127.0.0.1:8000/health"}  # what a reader fills in


def printed_by(answer: Diagnosis) -> Iterator[str]:
    """What an answer tells to run: its remedy, and each `Next:`."""
    if answer.remedy and answer.remedy.command:
        yield answer.remedy.command
    yield from (line[len("Next: ") :] for line in answer.doubts if line.startswith("Next: "))


def check(line: str) -> int:
    """How many commands of this program the line has: each named by its place, its arguments understood."""
    program, found = list(our_program()), 0
    for words in simple_commands(line.partition("   # ")[0]):
        own = words[1:] if words[:1] == ["sudo"] else words
        if own[: len(program)] == program:
            found += 1
            understood([VALUES.get(word, word) for word in own[len(program) :]])
    assert found == len(re.findall(r"(?:\bhang\.py|-m hangdebug)\b", line.partition("   # ")[0])), line
    return found


def simple_commands(line: str) -> list[list[str]]:
    """The words of each command of a shell line, between `;`, `|`, `&&` and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
    lexer.whitespace_split, lexer.commenters = True, ""
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set(";|&<>"):
            found.append([])
        else:
            found[-1].append(word)
    return found


def understood(words: list[str]) -> None:
    """Raises AssertionError for arguments that the command line does not take."""
    try:
        command_line().parse_args(words)
    except SystemExit as error:
        if error.code:
            raise AssertionError(words) from error
