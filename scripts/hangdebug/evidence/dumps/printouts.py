"""Stacks that a program prints of itself, with `traceback`: home-made `sys._current_frames()` dumps, tracebacks.

    # ThreadID: 140245           Thread 140245:          --- Thread: MainThread (140245) ---
    <_MainThread(MainThread, started 140245)>            Stack for thread "Worker-1":
      File "/srv/app/main.py", line 12, in confirm
        time.sleep(answer["retry_after"])

Stacks of tasks (`Task.print_stack()`) may stand among them. Rich's frames are read as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from hangdebug.evidence import light as re
from hangdebug.evidence.dumps import asyncio_tools
from hangdebug.evidence.dumps import grammar as stacks
from hangdebug.evidence.dumps.grammar import Grammar, Head, python_of, unread
from hangdebug.evidence.dumps.stated import is_interrupt
from hangdebug.evidence.model import Frame, Snapshot, Thread

LIST = re.compile(r"(?:^|\W)(?:Traceback|Stack) \(most recent call (?P<order>first|last)\)")
ORDER = re.compile(r"\s*\(most recent call (?P<order>first|last)\)")
OBJECT = re.compile(
    r"<_?\w{0,40}Thread\((?P<name>.{1,200}?), "
    r"(?:started|stopped|initial)(?: daemon)?(?: (?P<id>\d{1,20}))?\)>"
)
OF = re.compile(r"^(?:stack|traceback) (?:of|for) (?P<name>[^()]{1,200}?) \((?P<id>\d{6,20})\)$", re.IGNORECASE)
# aiomonitor's `where`: a task's own stack, and those in which its ancestors made it.
TASK = re.compile(
    r"^\W{0,20}Stack of (?P<name>[^\n]{0,300}?\b(?:[Tt]ask|coroutine)\b[^\n]{0,1000}?) "
    r"\(most recent call (?P<order>first|last)\)"
)
# gevent's `print_run_info()`: a greenlet, its stack below "Running:", and where it was made below "Spawned at:".
GREENLET = re.compile(r"^\s{0,40}<\w{0,40}Greenlet (?:\"(?P<name>[^\"]{1,200})\" )?at 0x[0-9a-f]{1,16}")
NAME_AND_IDENT = re.compile(  # [MainThread] ident=140012 daemon=False
    r"^[\s#*=\-~+>]{0,80}\[(?P<name>[^\]\n]{1,100})\] (?:ident|tid|native_id|thread_id)[=:] ?(?P<id>\d{3,20})\b"
)
RULED = re.compile(r"^[\s#*=\-~+>|\u2500-\u257f]{0,200}|[\s#*=\-~+<:|\u2500-\u257f]{0,200}$")
PREFIX = re.compile(
    r"^(?:(?:stack ?trace|stack|traceback|frames?|dump(?:ing)?)(?: of| for)?:? )?"
    r"(?P<thread>(?:python |current )?thread)"
    r"(?P<said>[ _-]?(?:id|ident|name))?(?P<sign>\s{0,4}[:=#]\s{0,4}|\s{1,4}|(?=\())",
    re.IGNORECASE,
)
ID = r"(?:(?:id|ident|tid|native_id)[=: ]{1,3})?(?P<id>0x[0-9a-fA-F]{1,16}|\d{1,20})"
FLAGS = r"(?:[,;]? {0,2}\(?(?:daemon|alive|is_daemon|is_alive)[=: ]{0,3}(?:True|False)?\)?){0,3}"
TARGET = r"(?: \([\w.<>]{1,80}\))?"  # of "Thread-3 (process_request)": what it was started with, since 3.10
BODIES = tuple(
    re.compile(body + FLAGS + "$")
    for body in (
        ID,
        ID + r"[ ,:;-]{0,4}[(\[](?:(?i:name)[=: ]{1,3})?['\"]?(?P<name>[^()\[\]'\"]{1,100}?" + TARGET + r")['\"]?[)\]]",
        r"['\"]?(?P<name>[\w.<>:@/-][\w.<>:@/ -]{0,99}?" + TARGET + r")['\"]? {0,2}[(\[,:;]\s?" + ID + r"[)\]]?",
        ID + r"[ ,:;-]{1,4}(?:(?i:name)[=: ]{1,3})?['\"]?(?P<name>[\w.<>:@/-]{1,100}" + TARGET + r")['\"]?",
        r"['\"](?P<name>[^'\"]{1,100})['\"]",
    )
)
NAME = re.compile(r"^(?P<name>[\w.<>:@/-]{1,100}" + TARGET + ")" + FLAGS + "$")
RICH = re.compile(
    r"^[\s\u2502|]{0,20}(?P<file>(?:/|[A-Za-z]:\\)[^\n\":]{1,500}):(?P<line>\d{1,9}) "
    r"in (?P<function>[\w.<>]{1,300})"
)
# The frame that Python itself prints, `File "app.py", line 3, in f`, and its kin. Many formats share it.
NAMED = r"(?P<function><[\w ]{1,40}>|[\w.<>$-]{1,300})"
FILE = re.compile(
    r'File "(?P<file>[^"\n]{1,1000})"(?:,? line (?P<line>\d{1,9}|\?{1,3}))?'
    r"(?:,? in " + NAMED + r")?"
    r"(?P<native> \([^()]{1,500}\))?"
)
NOTE = re.compile(r"^\s{0,20}(?P<note>\S.{0,500})?$")


def read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a sample. A thread's Python ident stands for its name where none is printed."""
    return stacks.read(lines, GRAMMAR)


@lru_cache(maxsize=1 << 14)  # several readers ask for it
def head(line: str) -> Head | None:
    task = asyncio_tools.head(line)
    if task is not None:
        return task
    named = NAME_AND_IDENT.match(line[:300]) if "id" in line[:300] else None
    if named:
        return Head("thread", named["name"], key=f"{named['name']} {named['id']}")
    green = GREENLET.match(line[:1000]) if "Greenlet" in line else None
    if green or line.strip() == "Spawned at:":
        return Head("task", green["name"]) if green else Head("section")
    own = TASK.match(line[:2000]) if "most recent call" in line else None
    if own:
        return Head("section" if "creating" in own["name"] else "task", own["name"], order=own["order"])
    ruled = OF.match(RULED.sub("", line[:400])) if "(" in line[:400] else None
    if ruled:
        return Head("thread", ruled["name"], key=f"{ruled['name']} {ruled['id']}")
    if len(line) > 400 or ("hread" not in line and "HREAD" not in line):
        found = LIST.search(line[:400]) if "most recent call" in line[:400] else None
        return Head("thread", order=found["order"], anonymous=True) if found else None
    order = ORDER.search(line)
    found = OBJECT.search(line) or match_head(RULED.sub("", ORDER.sub("", line)))
    if not found:
        return None
    groups = found.groupdict()
    name, ident = (groups.get("name") or "").strip(), groups.get("id") or ""
    return Head("thread", name or ident, order=order["order"] if order else "", key=f"{name} {ident}" if ident else "")


def match_head(words: str) -> re.Match[str] | None:
    """What a line that begins with "Thread" says of its name and ident; None for prose."""
    prefix = PREFIX.match(words)
    if not prefix:
        return None
    body = words[prefix.end() :].strip()
    for pattern in BODIES:
        found = pattern.match(body)
        if found:
            return found
    named = prefix["said"] or prefix["sign"].strip() or prefix.start("thread") > 0
    return NAME.match(body) if named or body == "MainThread" else None


def frames(line: str) -> list[Frame]:
    if 'File "' in line:
        return with_comma(line)
    found = RICH.match(line[:2000]) if " in " in line else None
    return [Frame(found["function"], found["file"], int(found["line"]) or None)] if found else []


def file_lines(line: str) -> list[Frame]:
    """The frames of a line, however decorated: one, none, or several joined."""
    if 'File "' not in line:
        return []
    found = [one for one in FILE.finditer(line) if one["line"] or one["function"]]
    made = [Frame(one["function"] or "?", one["file"], number(one["line"])) for one in found]
    if len(made) == 1:
        rest = NOTE.match(line[found[0].end() :])
        made[0] = Frame(made[0].function, made[0].file, made[0].line, (rest["note"] or "").strip() if rest else "")
    return made


def without_comma(line: str) -> list[Frame]:
    """faulthandler's own way: `File "app.py", line 3 in f`."""
    return [] if 'File "' in line and re.search(r'", line [\d?]{1,9}, in ', line) else file_lines(line)


def with_comma(line: str) -> list[Frame]:
    return [] if 'File "' in line and re.search(r'", line [\d?]{1,9} in ', line) else file_lines(line)


def number(text: str | None) -> int | None:
    return int(text) or None if text and text.isdecimal() else None


GRAMMAR = Grammar("traceback", head, frames, order="last", source=True)


# -- IPython and Jupyter -------------------------------------------------------------------------------

FUNCTION = r"in (?P<function>[\w.<>]{1,300}|<cell line: \d{1,9}>)(?:\(.{0,1000})?$"
PLACE = r"(?P<file>(?:~|/|[A-Za-z]:\\)[^\n\"]{1,500}?|[^\s\"()]{1,200}\.pyx?|<[^<>]{1,200}>)"
HEADS = (
    re.compile(r"^\s{0,12}File " + PLACE + r":(?P<line>\d{1,9})(?:, " + FUNCTION + r"|$)"),
    re.compile(r"^\s{0,12}" + PLACE + " " + FUNCTION),
    re.compile(
        r"^\s{0,12}(?:Cell|Input) (?P<file>In ?\[\d{1,6}\])(?:, line (?P<line>\d{1,9}))?(?:, " + FUNCTION + r"|$)"
    ),
)
ARROW = re.compile(r"^\s{0,12}-{1,8}> ?(?P<line>\d{1,9})(?: (?P<text>.{0,1000}))?$")
AROUND = re.compile(r"^\s{0,20}\d{1,9}(?: |$)")


def read_ipython(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot with one Thread for each traceback."""
    stacks: list[list[Frame]] = [[]]
    kept = list(lines)
    heads = {line: [one for pattern in HEADS for one in [pattern.match(line[:2000])] if one] for line in set(kept)}
    for line in kept:
        if "Traceback (most recent call last)" in line and stacks[-1]:
            stacks.append([])
        found = next(iter(heads[line]), None)
        arrow = ARROW.match(line) if stacks[-1] and not found else None
        if found and not AROUND.match(line):
            stacks[-1].append(frame(found))
        elif arrow:
            last = stacks[-1][-1]
            text = last.text or (arrow["text"] or "").strip()
            stacks[-1][-1] = replace(last, line=last.line or int(arrow["line"]), text=text)
    threads = tuple(Thread(tuple(reversed(one))) for one in stacks if any(frame.line for frame in one))
    if not threads:
        return ()
    left = unread(lines, is_ipythons)
    return (Snapshot(threads, None, "", python_of(threads), "IPython traceback", left),)


def is_ipythons(line: str) -> bool:
    """Whether it belongs to such a traceback: a place, source with its number, a rule, or the head."""
    marks = "Traceback (most recent call last)" in line or not line.strip("- ")
    return marks or bool(AROUND.match(line) or ARROW.match(line)) or any(one.match(line[:2000]) for one in HEADS)


def frame(found: re.Match[str]) -> Frame:
    groups = found.groupdict()
    function, line = groups.get("function") or "<module>", groups.get("line")
    file = groups["file"] if not groups["file"].startswith("In") else f"<ipython-{groups['file'].replace(' ', '')}>"
    return Frame("<module>" if function.startswith("<cell") else function, file, int(line) if line else None)


# -- pytest --------------------------------------------------------------------------------------------

# A failed test's traceback in pytest's own form: an excerpt of the source, and below it the place.
#
#     ______ test_reply ______
#         def test_reply():
#     >       assert replies.get() == 6
#     test_worker.py:11:
#     _ _ _ _ _ _
#     /usr/lib/python3.12/queue.py:171: in get
#         self.not_empty.wait()
#     E   Failed: Timeout (>3.0s) from pytest-timeout.
#     /usr/lib/python3.12/threading.py:355: Failed

TEST_HEAD = re.compile(r"^_{3,} (?P<name>\S[^\n]{0,200}?) _{3,}$")
INTERRUPTED = re.compile(r"^!{3,} KeyboardInterrupt !{3,}$")
RULES, LONGEST_RULE = ("___", "===", "---", "+++", "~~~", "!!!"), 300  # characters
TEST_PLACE = re.compile(
    r"^(?P<file>[^\s:]{1,500}\.pyx?):(?P<line>\d{1,9}): ?"
    r"(?:in (?P<function>[\w.<>]{1,300})|(?P<raised>[A-Z][\w.]{0,100}))?$"
)
TEST_RAISED = re.compile(r"^E {1,80}(?P<raised>[A-Za-z_][\w.]{0,200}(?::.{0,300})?)$")
DEFINED = re.compile(r"^[>\s]\s{0,80}(?:async )?def (?P<name>\w{1,200})\(")


def with_tests_as_tracebacks(lines: list[str]) -> list[str]:
    """The lines, each failed test's traceback in Python's own form; the main thread's, where a time-out ended it."""
    if not any(INTERRUPTED.match(line) or is_rule(line) for line in dict.fromkeys(lines)):
        return lines
    made: list[str] = []
    index = 0
    while index < len(lines):
        if INTERRUPTED.match(lines[index]) and index + 1 < len(lines):
            made += traceback_of("?", lines[index + 1 : index + 2])
            index += 2
            continue
        head = TEST_HEAD.match(lines[index].strip()) if is_rule(lines[index]) else None
        end = next((at for at in range(index + 1, len(lines)) if is_rule(lines[at])), len(lines)) if head else index
        found = traceback_of(head["name"], lines[index + 1 : end]) if head else []
        made += found or [lines[index]]
        index = end if found else index + 1
    return made


def is_rule(line: str) -> bool:
    """Whether it is a line of one mark, perhaps with words in its middle."""
    text = line.strip()
    return len(text) <= LONGEST_RULE and text[:3] == text[-3:] and text[:3] in RULES


def traceback_of(test: str, lines: list[str]) -> list[str]:
    """The traceback that these lines of a failed test show; [] where they show no place."""
    made: list[str] = []
    function, source, raised = test.rpartition(".")[2].partition("[")[0], "", ""
    for line in lines:
        marks = not line.strip(" ^~_")
        place, error, defined = TEST_PLACE.match(line.strip()), TEST_RAISED.match(line), DEFINED.match(line)
        if place:
            name = place["function"] or function
            made += [
                f'  File "{place["file"]}", line {place["line"]}, in {name}',
                *([f"    {source}"] if source else []),
            ]
            source, raised = "", raised or place["raised"] or ""
        elif error:
            raised = raised or error["raised"]
        elif defined:
            function = defined["name"]
        elif made and made[-1].startswith("  File ") and line[:4] == "    ":  # below its place, in the short form
            made.append(line)
        elif line[:4] == "    " and not marks:  # above it, in the long one: the last line is the one that failed
            source = line.strip()
    head = "Thread: MainThread" if is_interrupt(raised, ()) else "Traceback (most recent call last):"
    return [head, *made, *([raised] if raised else []), ""] if made else []
