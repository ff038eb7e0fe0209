"""py-spy's text, as `py-spy dump` prints it from 0.2 to 0.4: bare names, or qualified ones from 0.4.3 on.

    Process 4284: python -m uvicorn app.main:app
    Python v3.11.7 (/usr/bin/python3.11)

    Thread 4284 (idle): "MainThread"
        Thread.join (threading.py:1119)

Native frames (`--native`) are left out: the causes are read from Python's.
"""

from __future__ import annotations

from collections.abc import Iterable

from hangdebug.evidence import light as re
from hangdebug.evidence.dumps import grammar as stacks
from hangdebug.evidence.dumps import printouts
from hangdebug.evidence.dumps.grammar import Grammar, Head
from hangdebug.evidence.model import Frame, Snapshot

LONGEST = 2000  # characters of a line that holds one frame
PROCESS = re.compile(r"^\s*Process (?P<pid>\d{1,10}): ?(?P<command>.*)$")
PYTHON = re.compile(r"^\s*Python v(?P<version>[\d.]+\S*)")
THREAD = re.compile(
    r"^\s*Thread (?P<id>0x[0-9a-fA-F]{1,16}(?!\.)|\d{1,20}(?!\.)|(?:0x)?[0-9a-fA-F]{0,16}(?:\.{2,3}|\u2026)|[A-Z]{1,3})"
    r"(?: ?\((?P<state>[a-z+ ]{1,40})\))?"
    r"(?::? ?\"(?P<name>[^\"]*)\")?:?(?P<note>\s+\S.*)?$"
)
# Threads' usual names at the beginning of a line, as people head the stacks that they copy by hand.
KNOWN = re.compile(
    r"^\s*\W{0,3}(?P<name>MainThread|AnyIO worker thread|(?:Thread|ThreadPoolExecutor)-\d{1,6}(?:_\d{1,6})?|"
    r"(?:asyncio|uvloop)_\d{1,6})"
    r"(?=$|[\s:(\]*])(?: \([\w.<> ]{1,60}\))?[:\s\]*]{0,4}(?P<rest>.*)$"
)
STATE = r" ?\((?P<state>(?:idle|active)(?:\+gil)?)\)"
NAMED = (  # without an id: people take it out, and some put the name into its place
    re.compile(r"^\s*Thread" + STATE + r"(?:: ?\"(?P<name>[^\"]*)\")?:?(?P<note>\s+\S.*)?$"),
    re.compile(r"^\s*Thread:? [\"']?(?P<name>[^\"'()]{1,100}(?:\([^()]{1,60}\))?)[\"']?" + STATE + ":?$"),
)
CALL = re.compile(r"^\s*(?P<function>[^\s(\"'][^(\"']{0,300}) \((?P<rest>.*)$")
PLACE = re.compile(
    r"^(?P<file><[^<>]{1,200}>|[^\"']{1,500}?)"
    r"(?:(?::|, line )(?:(?P<line>\d{1,9})|\.{2,3}|\u2026|\?{1,3}|[NX]{1,3}))?\)"
    r"(?P<note>\s+\S.*)?$"
)
FILE_NAME = re.compile(r"\.[A-Za-z]\w{0,4}$|^<.*>$")
SOURCE_FILE = re.compile(r"\.(?:py|pyx|pyc)\b|^<.*>$|^(?!\d+$)[\w.+-]+$")
NO_FILES = frozenset("pid tid id fd port worker status code signal exit".split())
NATIVE = re.compile(r"\.(?:so(?:[.\d]*)|dylib|dll|exe|c|cc|cpp|h|hpp|rs|S)$|^(?:lib[\w+-]*-[\d.]+\.so|\[vdso\]|\?)$")
INTERPRETER = re.compile(r"^(?:lib)?python[\d.]*\w?$")
PYTHON_NAME = re.compile(r"^[\w.<>\[\]$]+$")
# Several frames on one line, as chats and issue trackers join them.
JOINED = re.compile(
    r"(?P<function>[A-Za-z_<][\w.<>]{0,200}) \((?P<file>[^()\s\"';]{1,300}|<[^<>]{1,80}>)"
    r"(?::(?P<line>\d{1,9})|(?<=\.py))\)"
)
# Functions without places that people join to the frame they led to: `join -> communicate -> run (subprocess.py:512)`.
ARROW = r"\s{0,4}(?:<?[-=]{1,3}>|<[-=]{1,3}|[\u2190-\u2193\u21d0-\u21d3\u27f5-\u27f6])\s{0,4}"
LED_BY = re.compile(
    r"(?:\.{3}\s|\u2026\s)?(?:" + ARROW + r")?(?:[A-Za-z_][\w.<>]{0,200}" + ARROW + r"){1,20}"
    r"(?=[A-Za-z_<][\w.<>]{0,200}$)"
)
# What people put before a frame: bullets, arrows, numbers, branches of a tree.
DECORATION = re.compile(
    r"^[\s>*`\u2022\u00b7\u25aa\u2023\-\u2013\u2014\u2190-\u21ff\u27a1\u279c\u279e\u27a4"
    r"=~#|+^\u2500-\u257f]{0,80}"
    r"(?:<[-=]{1,4}\s)?"
    r"(?:\(?\d{1,4}[.):]\s{1,8}|\[\d{1,4}\]\s{1,8}|\d{1,4}\s{1,8}|at\s{1,4}|frame\s)?"
)
COLLAPSED = re.compile(r"\);\S")  # one stack a line: collapsed.py
MOST_WORDS = 3  # before a function's name, where prose and a remark are told apart


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a process header, in order; stacks before any header belong to an unnamed process."""
    return stacks.read(lines, GRAMMAR)


def head(line: str) -> Head | None:
    line = line[:LONGEST]
    if "Process " in line or "Python v" in line or "Thread " in line:
        found = plain_head(line) or plain_head(DECORATION.sub("", line, 1).rstrip("* "))
        if found:
            return found
    own = printouts.head(line) if "hread" in line and 'File "' not in line else None  # a head of one's own
    return own or usual_name_head(line)


def usual_name_head(line: str) -> Head | None:
    found = KNOWN.match(line[:400])
    if not found or (
        not found["rest"].strip() and any(one.line or one.file.endswith(".py") for one in one_frame(line))
    ):
        return None
    first, rest = frames(found["rest"]), found["rest"].strip()
    prose = rest and not first and not re.match(r"[(\[<#\u2190-\u21ff\u2013\u2014-]", rest)
    return None if prose else Head("thread", found["name"], frames=tuple(first))


def plain_head(line: str) -> Head | None:
    process, python, found = PROCESS.match(line), PYTHON.match(line), THREAD.match(line)
    if process:
        return Head("process", process["command"], int(process["pid"]))
    if python:
        return Head("python", python["version"])
    if not found:
        named = next((one for pattern in NAMED for one in [pattern.match(line)] if one), None)
        return Head("thread", (named["name"] or "").strip(), None, *flags(named["state"])) if named else None
    state = found["state"] or ""
    name = found["name"] or ""
    if not re.match(r"(?:0x[0-9a-fA-F]+|\d+)$", found["id"]):  # cut short or made anonymous: `0x7f...`, `N`
        return Head("thread", name, None, *flags(state))
    number = int(found["id"], 0) if found["id"].startswith("0x") else int(found["id"])
    if number >= 1 << 32:  # a pthread address, not a kernel id
        return Head("thread", name or found["id"], None, *flags(state))
    return Head("thread", name, number, *flags(state))


def flags(state: str) -> tuple[bool | None, bool | None]:
    return ("active" in state, "gil" in state) if state else (None, None)


def frames(line: str) -> list[Frame]:
    """The frames that the line shows: one, none, or several joined by arrows or commas."""
    if " (" not in line or (");" in line and COLLAPSED.search(line)):
        return []
    if line.count(" (") > 1:
        found = [Frame(one["function"], one["file"], int(one["line"] or 0) or None) for one in JOINED.finditer(line)]
        if len(found) > 1:
            return found
    line = line[:LONGEST]
    return one_frame(line) or one_frame(DECORATION.sub("", line, 1))


def one_frame(line: str) -> list[Frame]:
    call = CALL.match(line)
    place = PLACE.match(call["rest"]) if call else None
    if not call or not place:
        return []
    if not (place["line"] or SOURCE_FILE.search(place["file"]) or NATIVE.search(place["file"])):
        return []
    function, file = call["function"].strip(), place["file"]
    if file.lower() in NO_FILES:  # a log's "WORKER TIMEOUT (pid:17)"
        return []
    if " " in file and not FILE_NAME.search(file):  # prose in brackets: (pid 12, seen at 17:31)
        return []
    if NATIVE.search(file) or (not place["line"] and INTERPRETER.match(file)):
        return [Frame(function, "")]
    led = LED_BY.match(function) if not PYTHON_NAME.match(function) else None
    function = function[led.end() :] if led else function
    if not PYTHON_NAME.match(function):
        *before, function = function.split()
        if not place["line"] or len(before) > MOST_WORDS or not PYTHON_NAME.match(function):
            return []
    number = int(place["line"]) if place["line"] else None
    return [Frame(function, file, number or None, (place["note"] or "").strip())]


GRAMMAR = Grammar("py-spy text", head, frames)
