"""Formats of a head line and lines of frames, each described by one Grammar: pystack, gdb, uWSGI, faulthandler, ...

A format that needs more than a Grammar has a file of its own beside this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Callable

from hangdebug.evidence import light as re
from hangdebug.evidence.dumps import grammar as stacks
from hangdebug.evidence.dumps import printouts, pyspy_text
from hangdebug.evidence.dumps.grammar import LONGEST_SKIPPED, MOST_SKIPPED, Grammar, Head, python_of
from hangdebug.evidence.frames import calls
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame, Snapshot, Task, Thread

# -- pystack -------------------------------------------------------------------------------------------

# pystack, as `pystack remote PID` and `pystack core FILE` print it, `--native` and `--locals` as well.
#
#     Traceback for thread 4284 (python3.11) [Has the GIL] (most recent call last):
#         (Python) File "/srv/app/main.py", line 12, in confirm
#             time.sleep(answer["retry_after"])
#
# Frames of C code are left out: the causes are read from Python's.

PYSTACK_THREAD = re.compile(
    r"Traceback for thread (?P<id>\d{1,10})(?: \([^()]{0,64}\))?(?: \[(?P<state>[^\[\]]{0,200})\])?"
    r" \(most recent call (?P<order>first|last)\)"
)
PYSTACK_NATIVE = re.compile(r"\((?:C|C\+\+|Rust|Other)\) {1,8}File ")


def pystack_read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a sample. The kernel's name of a thread ("python3.11") says nothing and is left out."""
    kept = list(lines)
    return stacks.read(kept, PYSTACK_GRAMMAR) if any(map(pystack_head, kept)) else ()


def pystack_head(line: str) -> Head | None:
    found = PYSTACK_THREAD.search(line[:500]) if "Traceback for thread" in line[:500] else None
    if not found:
        return None
    state = found["state"] or ""
    owns = "Has the GIL" in state if state else None
    return Head("thread", "", int(found["id"]), None, owns, found["order"])


def pystack_frames(line: str) -> list[Frame]:
    found = printouts.with_comma(line)
    return [replace(one, file="") for one in found] if "File " in line and PYSTACK_NATIVE.search(line) else found


PYSTACK_GRAMMAR = Grammar("pystack", pystack_head, pystack_frames, order="last", source=True)


# -- gdb -----------------------------------------------------------------------------------------------

# gdb with Python's extension: `thread apply all py-bt`, `py-bt`, and the Python frames of a plain `bt`.
#
# Thread 3 (Thread 0x7f2e477136c0 (LWP 15153) "python"):
# Traceback (most recent call first):
#   File "/srv/app/main.py", line 32, in fetch
#     return requests.get(url).text
#
# #5 Frame 0x7f2e48, for file /srv/app/main.py, line 32, in fetch (topic='sport')

GDB_THREAD = re.compile(
    r"(?:^|\W)Thread \d{1,6} "
    r"\((?:Thread 0x[0-9a-f]{1,16} )?\(?LWP (?P<id>\d{1,10})\)?(?: \"[^\"]{0,64}\")?\)"
)
GDB_LIST = re.compile(r"(?:^|\W)Traceback \(most recent call (?P<order>first|last)[^)]{0,40}\):")
GDB_FRAME = re.compile(r"\bfor file (?P<file>[^,\n]{1,1000}), line (?P<line>\d{1,9}), in (?P<function>[\w.<>]{1,300})")

# `py-bt` of a Python without its own symbols: #4 file '/usr/lib64/python2.7/threading.py', in 'wait'
GDB_OLD_FRAME = re.compile(r"^\s{0,8}#\d{1,4} file '(?P<file>[^'\n]{1,1000})', in '(?P<function>[\w.<>]{1,300})'")


def gdb_read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a sample, its threads known by the kernel's id (LWP)."""
    return stacks.read(lines, GDB_GRAMMAR)


def gdb_head(line: str) -> Head | None:
    line = line[:500]
    found = GDB_THREAD.search(line) if "LWP" in line else None
    if found:
        return Head("thread", "", int(found["id"]))
    words = GDB_LIST.search(line) if "most recent call" in line else None
    return Head("thread", order=words["order"], anonymous=True) if words else None


def gdb_frames(line: str) -> list[Frame]:
    if "for file " in line or "file '" in line:
        found = GDB_FRAME.search(line) or GDB_OLD_FRAME.match(line)
        line_number = int(found.groupdict().get("line") or 0) if found else 0
        return [Frame(found["function"], found["file"], line_number or None)] if found else []
    return printouts.with_comma(line)


GDB_GRAMMAR = Grammar("gdb", gdb_head, gdb_frames, source=True)


# -- uwsgi ---------------------------------------------------------------------------------------------

# uWSGI's tracebacker, asked over its socket or printed before a worker is killed (`harakiri`): one frame a line.
#
#     *** uWSGI Python tracebacker output ***
#
#     thread_id = uWSGIWorker1Core0 filename = /srv/app/wsgi.py lineno = 13 function = quote line = return price(item)
#     thread_id = uWSGIWorker1Core0 filename = /srv/app/wsgi.py lineno = 9 function = price line = time.sleep(3600)
#
# The outermost call comes first. Threads are known by name, or by Python's ident where they have none.

UWSGI_FRAME = re.compile(
    r"thread_id = (?P<thread>.{1,200}?) filename = (?P<file>.{1,1000}?) lineno = (?P<line>\d{1,9}) "
    r"function = (?P<function>\S{1,300})(?: line = (?P<text>.{0,1000}))?"
)


def uwsgi_read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a sample: a thread that comes again after others begins the next one."""
    samples: list[dict[str, list[list[Frame]]]] = []
    skipped: list[str] = []
    last = None
    for line in lines:
        found = UWSGI_FRAME.search(line) if "lineno = " in line else None
        if found:
            number, text = int(found["line"]) or None, (found["text"] or "").strip()
            frame = Frame(found["function"], found["file"], number, text=text)
            if not samples or (found["thread"] != last and found["thread"] in samples[-1]):
                samples.append({})
            last = found["thread"]
            stacks = samples[-1].setdefault(last, [[]])
            if stacks[-1] and calls(frame, "threading.py:_bootstrap"):  # another thread of the same name
                stacks.append([])
            stacks[-1].append(frame)
        elif line.strip() and len(skipped) < MOST_SKIPPED:
            skipped.append(line.strip()[:LONGEST_SKIPPED])
    return tuple(uwsgi_snapshot(one, skipped) for one in samples)


def uwsgi_snapshot(stacks: dict[str, list[list[Frame]]], skipped: list[str]) -> Snapshot:
    threads = tuple(Thread(tuple(reversed(frames)), name) for name, alike in stacks.items() for frames in alike)
    return Snapshot(threads, None, "", python_of(threads), "uWSGI tracebacker", tuple(skipped))


# -- faulthandler --------------------------------------------------------------------------------------

# faulthandler, from Python 3.8 to 3.15: a fatal signal, `dump_traceback`, `dump_traceback_later`.
#
# Fatal Python error: Aborted
#
# Thread 0x00007f3a5b7fe640 [ThreadPoolExecu] (most recent call first):     (names from 3.14 on)
#   File "/srv/app/main.py", line 32 in fetch
#
# Current thread 0x00007f3a6c1c3740 (most recent call first):
#   File "/usr/lib/python3.11/threading.py", line 1139 in _wait_for_tstate_lock

FAULTHANDLER_THREAD = re.compile(
    r"(?:^|\W)(?:Current thread|Thread) (?P<id>0x[0-9a-fA-F]{0,16}(?:\.{2,3}|\u2026)?)(?: \[(?P<name>[^\]]{1,64})\])?"
    r"(?: \((?P<order>most recent call (?:first|last))\))?:?(?:\s|$)"
)
FAULTHANDLER_ALONE = re.compile(r"(?:^|\W)Stack \(most recent call first\):")
FAULTHANDLER_BREAK = re.compile(r"(?:^|\W)(?:Fatal Python error: |Timeout \(\d{1,3}:\d\d:\d\d(?:\.\d{1,9})?\)!)")


def faulthandler_read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a sample: `dump_traceback_later(repeat=True)` prints several. Threads are named by address
    before 3.14; from then on by the kernel's name, which is cut to 15 characters and need not be theirs alone."""
    return stacks.read(lines, FAULTHANDLER_GRAMMAR)


def faulthandler_head(line: str) -> Head | None:
    line = line[:500]
    if "hread" in line:
        found = FAULTHANDLER_THREAD.search(line)
        if found:
            order = (found["order"] or "")[-5:].strip()
            whole = found["id"][-1] not in ".\u2026x"  # else cut short, and no longer its own
            return Head(
                "thread", found["name"] or (found["id"] if whole else ""), order=order, key=found["id"] if whole else ""
            )
    if "Stack (" in line and FAULTHANDLER_ALONE.search(line):
        return Head("thread", order="first", anonymous=True)
    return Head("break") if ("!" in line or "Fatal" in line) and FAULTHANDLER_BREAK.search(line) else None


FAULTHANDLER_GRAMMAR = Grammar("faulthandler", faulthandler_head, printouts.without_comma)


# -- profiling -----------------------------------------------------------------------------------------

# Python 3.15's own profiler: `python -m profiling.sampling dump [--all-threads] [--async-aware] PID`.
#
#     Stack dump for PID 2820, thread 2820 (main thread, idle; most recent call last):
#       File "app.py", line 20, in <module>
#         asyncio.run(main())
#
#     Stack dump, thread 2820 (task 140047914469808; most recent call last):
#       File "<task>", in save-1
#       File "app.py", line 6, in Store.save
#
# A task's stack begins with the tasks that await it, each named by a line of its own; the last one is the task.

PROFILING_HEAD = re.compile(
    r"Stack dump(?: for PID (?P<pid>\d{1,10}))?, thread (?P<id>\d{1,20}) \("
    r"(?P<what>[^()]{0,200}?)(?:; |, )?"
    r"most recent call (?P<order>first|last)\)"
)
PROFILING_MARK = "<task>"


def profiling_read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a sample, its threads known by the kernel's id; with `--async-aware` tasks as well."""
    kept = list(lines)
    found = stacks.read(kept, PROFILING_GRAMMAR) if any(map(profiling_head, kept)) else ()
    return tuple(replace(one, tasks=tuple(map(profiling_without_awaiters, one.tasks))) for one in found)


def profiling_head(line: str) -> Head | None:
    found = PROFILING_HEAD.search(line[:500]) if "Stack dump" in line[:500] else None
    if not found:
        return None
    what = found["what"]
    if what.startswith("task "):
        return Head("task", what[5:].split(",")[0], order=found["order"])
    name = "MainThread" if what.startswith("main thread") else ""
    owns = "gil" in what.lower() or None
    return Head("thread", name, int(found["id"]), False if "idle" in what else None, owns, found["order"])


def profiling_without_awaiters(task: Task) -> Task:
    """The task without the frames of those that await it."""
    marks = [index for index, frame in enumerate(task.frames) if frame.file == PROFILING_MARK]
    if not marks:
        return task
    profiling_frames = task.frames[: marks[0]]
    inner = profiling_frames[0].function if profiling_frames else ""
    return Task(
        task.frames[marks[0]].function,
        profiling_frames,
        inner,
        task.state,
        profiling_frames[-1].function if profiling_frames else "",
    )


def profiling_frames(line: str) -> list[Frame]:
    return printouts.with_comma(line)


PROFILING_GRAMMAR = Grammar("profiling.sampling", profiling_head, profiling_frames, order="last", source=True)


# -- austin --------------------------------------------------------------------------------------------

# austin's `austin --where PID`: py-spy's frames below a head of its own, outermost call first.
#
#     🐒 Process 1085 🧵 Thread 0:1085
#
#         <module> (/srv/app/main.py:20)
#         run (/usr/lib/python3.11/asyncio/runners.py:190)
#
# Its recordings are collapsed stacks: collapsed.py.

AUSTIN_THREAD = re.compile(r"Process (?P<pid>\d{1,10})\W{1,20}Thread (?:\d{1,4}:)?(?P<id>\w{1,20})\s*$")
AUSTIN_PYTHON = re.compile(r"Python version: (?P<version>[\d.]{1,20})")


def austin_read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a sample. Threads are known by the kernel's id."""
    kept = list(lines)
    heads = (AUSTIN_THREAD.search(line[:400]) for line in kept if "Process" in line)
    pid = next((int(one["pid"]) for one in heads if one), None)
    if pid is None:
        return ()
    return tuple(replace(one, pid=pid) for one in stacks.read(kept, AUSTIN_GRAMMAR))


def austin_head(line: str) -> Head | None:
    line = line[:400]
    found = AUSTIN_THREAD.search(line) if "Process" in line else None
    if found:
        number = found["id"]
        decimal = number.isdecimal() and int(number) < 1 << 32
        return Head("thread", "" if decimal else number, int(number) if decimal else None)
    python = AUSTIN_PYTHON.search(line) if "Python" in line else None
    return Head("python", python["version"]) if python else None


AUSTIN_GRAMMAR = Grammar("austin --where", austin_head, pyspy_text.frames, order="last")


# -- py-spy-asyncio ------------------------------------------------------------------------------------

# py-spy-asyncio's text: py-spy's, and the tasks of `py-spy-asyncio dump --asyncio` below the threads.
#
# Asyncio Tasks (3)
# Task 0x7f70ab7790d0 "save-1" (pending)
#     Lock.acquire (asyncio/locks.py:110)
#     Store.save (tasks_app.py:6)

PYSPY_ASYNCIO_TASK = re.compile(
    r"^\W{0,20}Task 0x[0-9a-fA-F]{1,16}(?: \"(?P<name>[^\"\n]{0,300})\")?"
    r"(?: \((?P<state>[\w ,+-]{1,60})\))?"
)
PYSPY_ASYNCIO_SECTION = re.compile(r"^\W{0,20}Asyncio Tasks \((?P<count>\d{1,9})\)")


def pyspy_asyncio_read(lines: Iterable[str]) -> tuple[Snapshot, ...]:
    """One Snapshot a process, with its tasks; none for a text without a section of tasks."""
    kept = list(lines)
    if not any("Asyncio Tasks (" in line or "Task 0x" in line for line in kept):
        return ()
    return stacks.read(kept, PYSPY_ASYNCIO_GRAMMAR)


def pyspy_asyncio_head(line: str) -> Head | None:
    found = PYSPY_ASYNCIO_TASK.match(line[:1000]) if "Task 0x" in line else None
    if found:
        return Head("task", found["name"] or "", state=found["state"] or "")
    if "Asyncio Tasks (" in line and PYSPY_ASYNCIO_SECTION.match(line):
        return Head("section")
    return pyspy_text.head(line)


PYSPY_ASYNCIO_GRAMMAR = Grammar("py-spy-asyncio text", pyspy_asyncio_head, pyspy_text.frames)


# -- the readers, as paste.py asks them ----------------------------------------------------------------


@dataclass(frozen=True)
class LineFormat:
    """A format's reader, and its grammar."""

    read: Callable[[list[str]], tuple[Snapshot, ...]]
    GRAMMAR: Grammar | None = None


PYSTACK = LineFormat(pystack_read, PYSTACK_GRAMMAR)
GDB = LineFormat(gdb_read, GDB_GRAMMAR)
UWSGI = LineFormat(uwsgi_read)
FAULTHANDLER = LineFormat(faulthandler_read, FAULTHANDLER_GRAMMAR)
PROFILING = LineFormat(profiling_read, PROFILING_GRAMMAR)
AUSTIN = LineFormat(austin_read, AUSTIN_GRAMMAR)
PYSPY_ASYNCIO = LineFormat(pyspy_asyncio_read, PYSPY_ASYNCIO_GRAMMAR)
