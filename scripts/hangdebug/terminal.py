"""What a person's terminal adds to plain text: colour, lines as long as it is wide, and the completion of words.

Files, pipes and programs get the plain text. NO_COLOR takes the colour away, FORCE_COLOR gives it to a pipe.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import TextIO

from hangdebug.errors import printable

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "1;31", "1;32", "1;33", "36"
VERDICT = {"healthy": GREEN, "inconclusive": YELLOW}  # by state; any other is a hang
LEAST, MOST = 40, 110  # columns: text that is wider is hard to read
# What the lines of an answer look like, and the colour of the first group; the first that fits is taken.
LINES = tuple(
    (re.compile(pattern), colour)
    for pattern, colour in (
        (r"^(evidence|doubts|not the cause|other processes|remedy|rules asked.*|certainty)$", BOLD),
        (r"^(process|frame|source|waits for|stack) ", DIM),
        (r"^ +(->.*)", YELLOW),
        (r"^ +=> (.*)", GREEN),
        (r"^(?:  - )?(Next: [^#]*[^# ])", CYAN),
        (r"^  (?:diff|pattern) +(.*)", CYAN),
        (r"^(\+(?!\+).*)", GREEN),
        (r"^(-(?!-).*)", RED),
        (r"^(@@.*)", CYAN),
        (r".*\b(PASSED)\b", GREEN),
        (r".*\b(FAILED)\b", RED),
    )
)
PROSE = re.compile(r"  - (?!Next: )|(?=[A-Z])(?!Next: )")  # a sentence, or one in a list: what may be wrapped


def coloured(stream: TextIO) -> bool:
    """Whether to colour what goes to `stream`."""
    if os.environ.get("NO_COLOR"):
        return False
    forced = os.environ.get("FORCE_COLOR")
    if forced:
        return forced != "0"
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def fitted(text: str, stream: TextIO, prose: bool = True) -> str:
    """The text as `stream` shows it best: what a name or a file's line holds cannot command the terminal.

    What is no `prose`, such as a diff or a table, keeps its lines.
    """
    lines = printable(text).split("\n")
    if prose and stream.isatty():
        width = max(LEAST, min(MOST, shutil.get_terminal_size().columns))
        lines = [part for line in lines for part in wrapped(line, width)]
    if coloured(stream):
        lines = [painted(line) for line in lines]
    return "\n".join(lines)


def wrapped(line: str, width: int) -> list[str]:
    """Sentences in lines of `width`. Commands, stacks and tables stay whole; what a command shows goes below it."""
    if line.startswith(("  - Next: ", "Next: ")) and "   # " in line and len(line) > width:
        command, _, why = line.partition("   # ")
        return [command, *textwrap.wrap(f"# {why}", width, initial_indent="      ", subsequent_indent="      # ")]
    listed = PROSE.match(line)
    if len(line) <= width or listed is None:
        return [line]
    inner = " " * len(listed[0])
    return textwrap.wrap(line, width, subsequent_indent=inner, break_long_words=False, break_on_hyphens=False)


def painted(line: str) -> str:
    verdict = re.match(r"([a-z-]+) / [a-z-]+ +confidence [\d.]+$", line)
    if verdict:
        return paint(line, VERDICT.get(verdict[1], RED))
    for pattern, colour in LINES:
        found = pattern.match(line)
        if found:
            return line[: found.start(1)] + paint(found[1], colour) + line[found.end(1) :]
    return line


def paint(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m"


# -- completion ----------------------------------------------------------------------------------------

SHELLS = ("bash", "zsh", "fish")
NAMES = ("hang", "hang.py")  # what a shell sees: the word before the arguments, without its folder


def completion(top: argparse.ArgumentParser, shell: str) -> str:
    """A script for `shell` that completes the verbs, their options and choices of `top`."""
    made = {"bash": in_bash, "zsh": in_zsh, "fish": in_fish}[shell](verbs_of(top))
    return "\n".join(made) + "\n"


def verbs_of(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next(dict(one.choices) for one in top._actions if isinstance(one, argparse._SubParsersAction))


def options_of(verb: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (one for one in verb._actions if one.option_strings)


def words_of(verb: argparse.ArgumentParser) -> list[str]:
    """Its options, and the choices of what stands without one."""
    return [name for one in options_of(verb) for name in one.option_strings] + free_of(verb)


def free_of(verb: argparse.ArgumentParser) -> list[str]:
    return [str(choice) for one in verb._actions if not one.option_strings for choice in one.choices or ()]


def in_bash(verbs: dict[str, argparse.ArgumentParser]) -> Iterator[str]:
    yield "_hang() {"
    yield '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words'
    yield "    COMPREPLY=()"
    yield '    if [ "$COMP_CWORD" -eq 1 ]; then'
    yield f"        COMPREPLY=($(compgen -W '{' '.join(verbs)} --help --version' -- \"$word\")); return"
    yield "    fi"
    yield '    case "${COMP_WORDS[1]} $before" in'
    for name, verb in verbs.items():
        for one in options_of(verb):
            for spelled in one.option_strings if one.choices else ():
                choices = " ".join(map(str, one.choices or ()))
                yield f"        '{name} {spelled}') COMPREPLY=($(compgen -W '{choices}' -- \"$word\")); return ;;"
    yield "    esac"
    yield '    case "${COMP_WORDS[1]}" in'
    yield from (f"        {name}) words='{' '.join(words_of(verb))}' ;;" for name, verb in verbs.items())
    yield "    esac"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$word") $(compgen -f -- "$word"))'
    yield "}"
    yield f"complete -o filenames -F _hang {' '.join(NAMES)}"


def in_zsh(verbs: dict[str, argparse.ArgumentParser]) -> Iterator[str]:
    yield f"#compdef {' '.join(NAMES)}"
    yield "_hang() {"
    yield "    local -a verbs"
    yield f"    verbs=({' '.join(quoted(f'{name}:{about(verb)}') for name, verb in verbs.items())})"
    yield "    if (( CURRENT == 2 )); then _describe verb verbs; return; fi"
    yield '    case "$words[2]" in'
    for name, verb in verbs.items():
        options = [spec for one in options_of(verb) for spec in specs(one)]
        rest = f"*:word:({' '.join(free_of(verb))})" if free_of(verb) else "*:file:_files"
        yield f"        {name}) shift words; (( CURRENT-- )); _arguments {' '.join(map(quoted, [*options, rest]))} ;;"
    yield "    esac"
    yield "}"
    yield 'if [ "$funcstack[1]" = _hang ]; then _hang "$@"; else compdef _hang ' + " ".join(NAMES) + "; fi"


def specs(one: argparse.Action) -> Iterator[str]:
    """An option for zsh's `_arguments`: `*--port[help]:value:(choices)`."""
    about = re.sub(r"([\[\]:\\])", r"\\\1", helped(one))
    value = "" if one.nargs == 0 else f":value:({' '.join(map(str, one.choices))})" if one.choices else ":value:_files"
    yield from (f"*{name}[{about}]{value}" for name in one.option_strings)


def in_fish(verbs: dict[str, argparse.ArgumentParser]) -> Iterator[str]:
    for program in NAMES:
        start = f"complete -c {program}"
        for name, verb in verbs.items():
            yield f"{start} -n __fish_use_subcommand -f -a {name} -d {quoted(about(verb))}"
            there = f"{start} -n '__fish_seen_subcommand_from {name}'"
            if free_of(verb):
                yield f"{there} -f -a '{' '.join(free_of(verb))}'"
            for one in options_of(verb):
                names = [f"-l {word[2:]}" if word[:2] == "--" else f"-s {word[1:]}" for word in one.option_strings]
                choices = f" -x -a '{' '.join(map(str, one.choices))}'" if one.choices else " -r"
                yield f"{there} {' '.join(names)}{'' if one.nargs == 0 else choices} -d {quoted(helped(one))}"


def about(verb: argparse.ArgumentParser) -> str:
    return (verb.description or "").replace(":", ",")


def helped(one: argparse.Action) -> str:
    return " ".join((one.help or "").replace("%%", "%").split())


def quoted(text: str) -> str:
    """For bash, zsh and fish alike."""
    return "'" + text.replace("'", "`") + "'"
