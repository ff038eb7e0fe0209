"""Lines that state a fact, beside stacks or without any: a log's warning, a watchdog's record, a time-out's banner.

    Shard ID 2 heartbeat blocked for more than 20 seconds.
    Detected blocking call to open ... inside the event loop by integration 'x' at x/store.py, line 61: open(path)
    Event loop stalled 3.2s at shop/db.py:31 in fetch_all
    [CRITICAL] WORKER TIMEOUT (pid:17)

A time-out that kills a worker runs a signal handler on top of what it interrupted: `without_handler` takes that off. A
traceback of any other exception shows where that was raised, and is no stack of now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from hangdebug.evidence import light as re
from hangdebug.evidence.frames import UNKNOWN, calls, package
from hangdebug.evidence.libraries import CALLED_LAST, JOIN
from hangdebug.evidence.model import Frame, Statement, Thread
from hangdebug.evidence.vocabulary import StatementKind

LONGEST = 4000  # characters of a line that are looked at
MOST = 20  # statements of one text

# Signal handlers, and what they call, of servers, job workers and test tools that end what takes too long.
HANDLERS = (
    "gunicorn/workers/base.py:handle_abort",
    "gunicorn/workers/base.py:handle_quit",
    "billiard/pool.py:soft_timeout_sighandler",
    "billiard/common.py:_shutdown_cleanup",
    "rq/timeouts.py:handle_death_penalty",
    "pytest_timeout.py",
    "_pytest/outcomes.py:fail",
    "timeout_decorator/timeout_decorator.py:handler",
    "stopit/signalstop.py:handle_timeout",
    "celery/apps/worker.py:_handle_request",
    "huey/consumer.py:_handle_signal",
    "signal.py:default_int_handler",
    "asyncio/runners.py:_on_sigint",
    "blockbuster/blockbuster.py",
    "faulthandler.py",
)
OWN_HANDLER = re.compile(
    r"^_?(?:on|handle|handler|raise)?_?(?:sig\w*|alarm|time_?out|abort)(?:_?handler)?$|^_?handler$"
)
RAISES = re.compile(r"^(?:raise\b|(?:sys|os)\._?exit\(|traceback\.|faulthandler\.)")
INTERRUPTS = re.compile(
    r"^(?:[\w.]{1,100}\.)?(?:KeyboardInterrupt|SoftTimeLimitExceeded|TimeLimitExceeded|JobTimeoutException|"
    r"FunctionTimedOut|Failed(?=: Timeout)|SystemExit|WorkerTimeout\w*|HardTimeLimit\w*)\b"
)
PRINTS_STACKS = re.compile(
    r"\b(?:print_run_info|format_run_info|format_stack|print_stack|extract_stack|walk_stack|format_list|_current_frames|dump_traceback\w*)\("
)
WAITS = ("threading.py:wait", *JOIN)
BLOCKING = re.compile(r"BlockingError\b")  # of the blockbuster library: the traceback shows the call, on the loop

SECONDS = re.compile(
    r"(?<![\w.:-])(?P<value>\d{1,9}(?:\.\d{1,9})?) ?(?P<unit>milliseconds?|msecs?|ms|seconds?|secs?|s|minutes?|mins?)\b"
    r"|(?P<key>\w{0,60}?(?P<of>_ms|_s|_sec|_seconds|_millis))=(?P<number>\d{1,12}(?:\.\d{1,9})?)"
)
IS_HELD = (
    r"(?:blocked|block(?:ing)?|stall(?:ed|ing)?|stuck|unresponsive|fro(?:ze|zen)|hung|starved|lag(?:ged|ging)?|delayed)"
)
LOOP = r"(?:event|asyncio|main|io)?[ _-]?loop\b|(?:event|asyncio|main|io)_loop_"
# Said in so many words; a sentence about a loop counts where it names a time as well.
HELD = re.compile(
    r"heartbeat blocked for more than|detected (?:a )?blocking call|blocking call (?:to|detected)|"
    r"blocking operation .{0,40}event loop",
    re.IGNORECASE,
)
HELD_FOR = re.compile(rf"(?:{LOOP}).{{0,60}}?{IS_HELD}|{IS_HELD}.{{0,30}}?(?:{LOOP})", re.IGNORECASE)
KILLED = re.compile(
    r"\bWORKER TIMEOUT\b|\bHARAKIRI ON WORKER\b|(?:soft|hard) time limit .{0,60}exceeded|SoftTimeLimitExceeded|"
    r"\bTimeLimitExceeded|JobTimeoutException|exceeded maximum timeout value|FunctionTimedOut|was sent SIGABRT",
    re.IGNORECASE,
)
# One of these words stands in whatever HELD_FOR and KILLED find: to look for it costs a tenth of them.
A_LOOP, KILLERS = "loop", ("timeout", "timedout", "time limit", "timelimit", "harakiri", "sigabrt")
TEST = re.compile(r"from pytest-timeout|\bFailed: Timeout\b|^\+{5,} Timeout \+{5,}$")
STOPPING = re.compile(r"Waiting for (?:connections to close|background tasks to complete|application shutdown)")
STOPPED = re.compile(r"Application shutdown complete|Finished server process")
STARTED = re.compile(r"Started server process")
UNANSWERED = re.compile(
    r"(?:liveness|readiness|startup) probe failed|health ?checks? .{0,60}(?:fail|timed out)|context deadline exceeded",
    re.IGNORECASE,
)
INTERRUPTED = re.compile(r"^(?:\^C)?\s{0,8}KeyboardInterrupt:?\s*$")
# What a thread is in, as strace, /proc/PID/stack and /proc/PID/wchan say it: no frame, of whatever language.
SYSCALL = re.compile(
    r"^(?:\[pid\s{1,8}(?P<pid>\d{1,10})\]\s|(?P<tid>\d{1,10})\s{1,4})?(?:\d\d:\d\d:\d\d(?:\.\d{1,6})?\s)?(?P<call>[a-z_][a-z_0-9]{1,40})\("
    r"(?=.{0,2000}(?:<unfinished \.\.\.>|\^C|\) {1,60}= |,\s*$))"
)
KERNEL_FRAME = re.compile(r"^\[<(?:0|[0-9a-f]{8,16})>\] (?P<call>\w{2,80})(?:\+0x|$)")
WCHAN = re.compile(r"^(?P<call>[a-z_]\w{3,80})$")
STRACE = re.compile(r"^\$? ?(?:sudo )?strace\b|\[pid\s{1,8}\d|<unfinished \.\.\.>")
CRASHED = re.compile(r"\bFatal Python error: (?!Aborted)\w|was sent SIG(?:KILL|SEGV|BUS)\b|\bKilled process \d+ \(")
STOPPED_BY = re.compile(r"^State:\s{0,8}[Tt] \((?:stopped|tracing stop)\)")
C_FRAME = re.compile(  # gdb's, eu-stack's, lldb's
    r"^(?:#\d{1,3}\s+(?:0x[0-9a-f]+ in )?[\w:~<>@.]+ ?\(|#\d{1,3}\s+0x[0-9a-f]+\b|(?:\* )?frame #\d{1,3}: 0x[0-9a-f]+ |"
    r"(?:\* )?\d{1,5}\s+Thread 0x[0-9a-f]+ \(LWP \d+\)|[+!:| ]*\d{1,9} \S{1,200}  \(in [\w.+-]{1,100}\))"
)
INNERMOST = re.compile(r"^#0\s+(?:0x[0-9a-f]+ (?:in )?)?(?P<call>[A-Za-z_]\w{1,80})")
LIBRARY = re.compile(r"\bfrom \S{0,400}?(?P<library>\w[\w+]{0,60})(?:[-.][\w.-]{0,80})?\.so[\w.]{0,20}$")
NO_FRAME = "Unable to locate gdb frame for python bytecode interpreter"
C_MARKS = re.compile(r"(?:\b|_)_?Py(?:Eval|Thread|_|Object|Function|Run)|libpython|_PyEval")

# The places that such a line names: `x/store.py, line 61: open(path)`, `shop/db.py:31 in fetch_all`.
CALLED = re.compile(r"blocking call to (?P<function>[A-Za-z_][\w.]{0,200})", re.IGNORECASE)
PLACE = re.compile(
    r"(?:(?<=[\"'=])(?P<before>[A-Za-z_][\w.]{0,200}) ?\()?"
    r"(?P<file>[\w./\\~-]{1,500}\.pyx?)(?:, line |:)(?P<line>\d{1,9})"
    r"(?:,? in (?P<function>[\w.<>]{1,200})|: (?P<text>[^()\n]{0,80}\([^()\n]{0,300}\)|.{1,200}?(?= \(offender|$)))?"
)


def statements(lines: Iterable[str]) -> tuple[Statement, ...]:
    """What the lines state, each once. Lines of a stack state nothing."""
    all_lines = list(lines)
    kept = list(dict.fromkeys(all_lines))
    found = [one for line in kept for one in stated(line[:LONGEST])]
    if ended_by_itself(kept):  # what it waited for has ended
        found = [one for one in found if one.kind != "stopping"]
    if c_only(kept):
        found.append(Statement("c-only", f"Its frames are those of C functions{innermost_words(all_lines)}"))
    found += [Statement("c-only", one) for one in system_calls(all_lines)]
    return tuple(dict.fromkeys(found))[:MOST]


def ended_by_itself(lines: list[str]) -> bool:
    """Whether a server says that it has ended, or has begun anew, and nobody forced it to by a second Ctrl-C."""
    waits = next((index for index, line in enumerate(lines) if STOPPING.search(line)), len(lines))
    anew = next((index for index, line in enumerate(lines) if index > waits and STARTED.search(line)), None)
    end = next((index for index, line in enumerate(lines) if STOPPED.search(line)), anew)
    forced = end is not None and any("^C" in line or INTERRUPTED.match(line) for line in lines[waits + 1 : end + 1])
    return end is not None and not forced


def stated(line: str) -> Iterator[Statement]:
    text = line.strip()
    kind = kind_of(text) if text and 'File "' not in text[:20] and "Executing <" not in text else None
    if kind is not None:
        yield Statement(kind, text, seconds(text), place(text) if kind == "loop-held" else ())


def kind_of(text: str) -> StatementKind | None:
    small = text.casefold()
    if HELD.search(text) or (A_LOOP in small and HELD_FOR.search(text) and seconds(text) is not None):
        return "loop-held"
    if any(word in small for word in KILLERS) and KILLED.search(text):
        return "killed"
    if TEST.search(text):
        return "test-timeout"
    if STOPPING.search(text):
        return "stopping"
    if STOPPED_BY.match(text):
        return "stopped"
    if CRASHED.search(text):
        return "crashed"
    if UNANSWERED.search(text):
        return "unanswered"
    return "interrupted" if INTERRUPTED.match(text) else None


def seconds(text: str) -> float | None:
    """The longest time that the line names."""
    found = []
    for one in SECONDS.finditer(text):
        number, unit = float(one["value"] or one["number"]), (one["unit"] or one["of"].lstrip("_"))
        found.append(
            number / 1000 if unit.startswith("m") and "s" in unit else number * 60 if unit[0] == "m" else number
        )
    return max(found, default=None)


def place(text: str) -> tuple[Frame, ...]:
    """The place that the line names, with its source if that stands there too."""
    places, called = list(PLACE.finditer(text)), CALLED.search(text)
    if not places:
        return ()
    first = places[0]
    function = first["function"] or first["before"] or (called["function"] if called else UNKNOWN)
    source = next((one["text"] for one in places if one["text"] and one["line"] == first["line"]), "")
    source = source.strip() or (f"{function}(...)" if called else "")
    return (Frame(function, first["file"], int(first["line"]) or None, text=source),)


def system_calls(lines: list[str]) -> Iterator[str]:
    """In words which system calls, or kernel functions, the text shows; nothing where it shows none."""
    different = {line: SYSCALL.match(line.strip()[:LONGEST]) for line in dict.fromkeys(lines)}
    calls_made = [one for line in lines for one in [different[line]] if one]
    if calls_made and any(STRACE.search(line[:LONGEST]) for line in lines):
        last = {one["pid"] or one["tid"] or "": one["call"] for one in calls_made}
        each = (f"{call}() of {who}" if who else f"{call}()" for who, call in last.items())
        yield f"Its lines are system calls, the last ones {', '.join(each)}"
    shape = WCHAN if any("/wchan" in line[:LONGEST] for line in different) else KERNEL_FRAME
    kernel = next((one for line in different for one in [shape.match(line.strip()[:200])] if one), None)
    if kernel:
        yield f"Its frames are the kernel's own, the innermost {kernel['call']}"


def c_only(lines: list[str]) -> bool:
    """Whether they are of a debugger's stack of an interpreter's C functions."""
    if any(NO_FRAME in line for line in lines):
        return True
    frames = [line for line in lines if C_FRAME.match(line.strip())]
    return len(frames) > 1 and any(C_MARKS.search(line) for line in frames)


def is_no_python(line: str) -> bool:
    """Whether it is a frame of C, or a system call."""
    text = line.strip()[:LONGEST]
    return any(shape.match(text) for shape in (C_FRAME, SYSCALL, KERNEL_FRAME))


def innermost_words(lines: list[str]) -> str:
    """What a debugger's stack shows of its innermost end: the C function, and a library that is not Python's."""
    calls_made = [one["call"] for line in lines for one in [INNERMOST.match(line.strip()[:300])] if one]
    named = (one["library"] for line in lines for one in [LIBRARY.search(line[:LONGEST])] if one)
    library = next((one for one in named if not one.startswith(("libc", "libpthread", "libpython", "ld-"))), "")
    first = f", the innermost {calls_made[0]}" if calls_made else ""
    return f"{first}{f', of or below {library}' if library else ''}"


# -- what interrupted a stack, and what was raised in it ----------------------------------------------------------


def is_interrupt(raised: str, frames: Iterable[Frame]) -> bool:
    """Whether what was raised only ended a wait: Ctrl-C, or a time-out's handler, on top of what it interrupted."""
    handled = any(is_handler(frame) for frame in frames)
    return (bool(INTERRUPTS.match(raised)) and (handled or "SystemExit" not in raised)) or handled


def is_handler(frame: Frame) -> bool:
    own = OWN_HANDLER.match(frame.name) and RAISES.match(frame.text)
    return calls(frame, *HANDLERS) or bool(own)


def without_own_look(thread: Thread) -> Thread:
    """The thread as it stood before it printed the stacks of all; if it does so anyway, it stands nowhere."""
    if not thread.frames or not PRINTS_STACKS.search(thread.frames[0].text):
        return thread
    rest = thread.frames[1:]
    interrupted = bool(rest) and (package(rest[0]) in CALLED_LAST or calls(rest[0], *WAITS))  # they call nobody back
    return replace(thread, frames=rest) if interrupted else replace(thread, raised="the look itself")


def without_handler(thread: Thread) -> tuple[Thread, tuple[Statement, ...]]:
    """The thread without a time-out's handler on top of its stack, and what that handler states."""
    count = 0
    while count < len(thread.frames) and is_handler(thread.frames[count]):
        count += 1
    if not count or count == len(thread.frames):
        return thread, ()
    last = thread.frames[count - 1]
    kind: StatementKind = "test-timeout" if calls(last, "pytest_timeout.py") else "killed"
    if calls(last, "blockbuster/blockbuster.py"):
        kind = "loop-held"
    words = f"{last} interrupted what had not come to an end."
    return replace(thread, frames=thread.frames[count:], raised=""), (Statement(kind, words),)
