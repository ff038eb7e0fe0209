"""Read what an assistant said and did, from one of three forms.

Plain JSON: one object a turn, one a line or in one array (or an object whose `messages` or `turns` is that array).

    {"role": "user", "text": "It hangs again."}
    {"role": "assistant", "text": "I look.",
     "tools": [{"tool": "bash", "command": "...", "output": "...", "status": 0, "seconds": 1.9}]}
    {"seconds": 74}

`tools` holds the calls that followed the text, in order. A tool that writes files is called "edit" or "write", and
its `command` is the path. `status` (0) and `seconds` may be missing; the last row is how long the whole run took.
`content` instead of `text`, with the blocks of the Messages API (text, tool_use, tool_result), is read too.

Plain text, as it is written down by hand or by the assistant itself:

    user: It hangs again.
    assistant: I look.
    $ python3 scripts/hang.py diagnose --port 8000 --save evidence
    loop-blocked / lock   confidence 0.94
    [exit 0]
    edit: app/main.py
    assistant: The event loop waits for a lock at app/main.py:48.
    [seconds 74]

What follows a `$` line, up to the next line that begins with one of these words, is its output; `> ` right below it
continues the command.

The third form is what `claude -p ... --output-format stream-json --verbose` prints.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SHELLS = ("bash", "shell", "sh", "execute", "terminal")
EDITORS = ("edit", "write", "multiedit", "notebookedit", "str_replace_based_edit_tool")
WRAPPERS = (
    "env",
    "nohup",
    "time",
    "exec",
    "command",
    "setsid",
    "xargs",
    "nice",
    "stdbuf",
    "then",
    "do",
    "else",
    "if",
    "while",
    "!",
)
SPOKEN = re.compile(r"(user|assistant):[ \t]?(.*)", re.I)
TOLD = re.compile(r"\[(exit|seconds) (\d+(?:\.\d+)?)\]\s*$")
HEREDOC = re.compile(r"<<-?[ \t]*(['\"]?)(\w+)\1([^\n]*)\n.*?\n[ \t]*\2(?=\s|$)", re.DOTALL)


class NotATranscript(Exception):
    """The text has none of these forms, or nobody says or does anything in it."""


@dataclass(frozen=True)
class Step:
    """One thing that happened. `kind` is "user", "say" or "call"; `text` the words, the command, or the path."""

    kind: str
    text: str
    tool: str = ""
    output: str = ""
    failed: bool = False
    seconds: float = 0.0

    @property
    def shell(self) -> bool:
        return self.kind == "call" and self.tool in SHELLS

    @property
    def edits(self) -> bool:
        return self.kind == "call" and self.tool in EDITORS


@dataclass(frozen=True)
class Transcript:
    """The steps in order; `seconds` is the whole run, 0 where the transcript does not tell."""

    steps: tuple[Step, ...]
    seconds: float = 0.0

    @property
    def answer(self) -> str:
        """What was said after the last call: the answer that a person is left with."""
        last = max((index for index, step in enumerate(self.steps) if step.kind == "call"), default=-1)
        said = [step.text for step in self.steps[last + 1 :] if step.kind == "say"]
        return "\n".join(said)


def read(text: str) -> Transcript:
    """Raises NotATranscript."""
    rows = rows_of(text)
    steps = tuple(step for step in all_steps(rows) if step.text.strip())
    if not any(step.kind == "say" for step in steps):
        raise NotATranscript("the assistant says nothing in it")
    return Transcript(steps, whole_time(rows) or sum(step.seconds for step in steps))


def rows_of(text: str) -> list[dict[str, Any]]:
    """The turns of either form. Raises NotATranscript."""
    if SPOKEN.match(text):
        return from_text(text)
    try:
        rows = json.loads(text)
        rows = (
            next((rows[key] for key in ("messages", "turns") if key in rows), [rows])
            if isinstance(rows, dict)
            else rows
        )
    except ValueError:
        rows = []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                rows += [json.loads(line)] if line.strip() else []
            except ValueError as error:
                raise NotATranscript(
                    f"line {number} is not JSON, and no turn begins with user: or assistant: ({error})"
                ) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise NotATranscript("it holds something else than one object a turn")
    return rows


def from_text(text: str) -> list[dict[str, Any]]:
    """The turns of a transcript in plain text, as rows of plain JSON."""
    rows: list[dict[str, Any]] = []
    for line in text.splitlines():
        turn, told = SPOKEN.match(line), TOLD.match(line)
        call = rows[-1]["tools"][-1] if rows and rows[-1].get("tools") else None
        if turn:
            rows.append({"role": turn[1].lower(), "text": turn[2], "tools": []})
        elif told and told[1] == "seconds":
            rows.insert(0, {"seconds": float(told[2])})
        elif told and call is not None:
            call["status"] = float(told[2])
        elif line.startswith("$ ") and rows[-1]["role"] == "assistant":
            rows[-1]["tools"].append({"tool": "bash", "command": line[2:], "output": ""})
        elif re.match(r"(?:edit|write): ", line) and rows[-1]["role"] == "assistant":
            rows[-1]["tools"].append({"tool": line.split(":")[0], "command": line.split(": ", 1)[1], "output": ""})
        elif call is not None and not call["output"] and line.startswith("> "):
            call["command"] += "\n" + line[2:]
        elif call is not None:
            call["output"] += line + "\n"
        else:
            rows[-1]["text"] += "\n" + line
    return rows


def all_steps(rows: list[dict[str, Any]]) -> Iterator[Step]:
    if any("role" in row and "content" not in row for row in rows):
        return from_plain([row for row in rows if "role" in row])
    return from_stream([{"type": row["role"], "message": row} if "role" in row else row for row in rows])


def whole_time(rows: list[dict[str, Any]]) -> float:
    """How long the run took, 0 where nothing tells."""
    told = [seconds(row.get("duration_ms")) / 1000 for row in rows if row.get("type") == "result"]
    told += [seconds(row.get("seconds")) for row in rows if "role" not in row]
    return next(filter(None, reversed(told)), 0.0)


def seconds(value: Any) -> float:
    return float(value) if type(value) in (int, float) else 0.0


def from_plain(rows: list[dict[str, Any]]) -> Iterator[Step]:
    for row in rows:
        yield Step("user" if row.get("role") == "user" else "say", str(row.get("text") or ""))
        for call in row.get("tools") or ():
            yield Step(
                "call",
                str(call.get("command", "")),
                str(call.get("tool", "bash")).lower(),
                str(call.get("output", "")),
                bool(call.get("status")),
                seconds(call.get("seconds")),
            )


def from_stream(rows: list[dict[str, Any]]) -> Iterator[Step]:
    results = {
        part["tool_use_id"]: part
        for row in rows
        if row.get("type") == "user"
        for part in parts(row)
        if part.get("type") == "tool_result"
    }
    for row in rows:
        kind = {"assistant": "say", "user": "user"}.get(str(row.get("type")))
        for part in parts(row) if kind else ():
            if part.get("type") == "text":
                yield Step(kind, str(part.get("text", "")))
            elif part.get("type") == "tool_use":
                given, result = part.get("input") or {}, results.get(part.get("id"), {})
                what = given.get("command") or given.get("file_path") or given.get("path") or json.dumps(given)
                yield Step(
                    "call",
                    str(what),
                    str(part.get("name", "")).lower(),
                    words(result.get("content")),
                    bool(result.get("is_error")),
                )


def parts(row: dict[str, Any]) -> list[dict[str, Any]]:
    content = (row.get("message") or {}).get("content", [])
    return (
        [{"type": "text", "text": content}]
        if isinstance(content, str)
        else [one for one in content if isinstance(one, dict)]
    )


def words(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(one.get("text", "")) for one in content if isinstance(one, dict))
    return str(content or "")


def simple_commands(line: str) -> list[list[str]]:
    """The programs that a shell line runs, as argument lists: pipes, lists, `sh -c` and wrappers opened up."""
    line = HEREDOC.sub(lambda found: f"<<{found[2]}{found[3]}", line)
    inner = re.findall(r"\$\(([^()]*)\)", line)
    line = re.sub(r"\$\(([^()]*)\)", lambda found: "$[" + re.sub(r"\W+", "_", found[1]) + "]", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    try:
        tokens = list(lexer)
    except ValueError:  # a quote that is not closed
        tokens = re.findall(r"[;&|()\n]+|[^\s;&|()]+", line)
    found: list[list[str]] = [[]]
    for token in tokens:
        if re.fullmatch(r"[;&|()\n]+", token):
            found.append([])
        else:
            found[-1].append(token)
    return [argv for words_ in found for argv in unwrapped(words_)] + [
        argv for one in inner for argv in simple_commands(one)
    ]


def unwrapped(argv: list[str]) -> Iterator[list[str]]:
    """`argv`, and what it runs in turn: sudo X gives both, `timeout 5 X` and `env A=b X` give X."""
    while argv and (re.match(r"\w+=", argv[0]) or argv[0] in WRAPPERS):
        argv = argv[1:]
    if not argv or argv[0].startswith("#"):
        return
    name = argv[0].rpartition("/")[2]
    if name in ("sh", "bash", "dash", "ash") and "-c" in argv[:-1]:
        yield from simple_commands(argv[argv.index("-c") + 1])
    elif name in ("sudo", "doas"):
        yield argv
        rest = argv[1:]
        while rest and rest[0].startswith("-"):
            rest = rest[2:] if rest[0] in ("-u", "-g") else rest[1:]
        yield from unwrapped(rest)
    elif name == "timeout":
        yield argv
        yield from unwrapped(
            argv[next((n for n, word in enumerate(argv[1:], 1) if word[:1].isdigit()), len(argv)) + 1 :]
        )
    else:
        yield argv
