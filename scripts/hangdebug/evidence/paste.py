"""Read what people paste: one module a format, recognised by its content."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace

from hangdebug.errors import BadRequest, NotADump, ours
from hangdebug.evidence import light as re
from hangdebug.evidence.dumps import (
    asyncio_tools,
    collapsed,
    colons,
    line_formats,
    printouts,
    pyspy_json,
    pyspy_text,
)
from hangdebug.evidence.dumps.clean import clean
from hangdebug.evidence.dumps.grammar import LONGEST_SKIPPED, MOST_SKIPPED, Grammar, unread
from hangdebug.evidence.dumps.stated import is_no_python, statements, without_handler, without_own_look
from hangdebug.evidence.frames import different, is_suspended, with_familiar_paths
from hangdebug.evidence.model import Snapshot, Statement, Task, Thread

# The reader that finds most in a text has it; where two find as much, the first.
READERS = (
    pyspy_json,
    line_formats.PYSPY_ASYNCIO,
    pyspy_text,
    line_formats.FAULTHANDLER,
    line_formats.LineFormat(printouts.read_ipython),
    printouts,
    line_formats.PYSTACK,
    line_formats.GDB,
    line_formats.PROFILING,
    line_formats.AUSTIN,
    collapsed,
    asyncio_tools,
    line_formats.UWSGI,
    colons,
)
LAST_READER = line_formats.LineFormat(
    asyncio_tools.read_debug_log
)  # a mention of a task is read where there is no stack
JSON = "py-spy JSON"  # its reader takes a whole text or nothing, and says of no line that it was not read
# Where a task made another one: it went on from there.
MAKES_TASK = re.compile(r"\b(?:create_task|ensure_future|start_soon)\(")
MENTIONED, PROSE = 2, 40  # frames, and lines for each of them
LARGE = 4 << 20  # characters
MOST_TEXT, MOST_THREADS = 32 << 20, 50_000  # bytes of a file, and threads in it: more take minutes to judge
HOPEFUL = re.compile(r"\.py|hread|rocess|[Tt]ask|Trace|File|:\d+\)|\"|^\s*[\[\]{}]")
NEXT = f"py-spy dump --pid PID > dump.txt && {ours('diagnose', 'dump.txt')}"


def text_of(source: str) -> str:
    """The text of a file, or of standard input for "-". Raises BadRequest."""
    try:
        if source == "-":
            if sys.stdin.isatty():
                print("Paste the dump, then press Ctrl-D.", file=sys.stderr, flush=True)
            raw = sys.stdin.buffer.read(MOST_TEXT + 1)
        else:
            with open(source, "rb") as opened:
                raw = opened.read(MOST_TEXT + 1)
    except OSError as error:
        raise BadRequest(f"{source} cannot be read.", error.strerror or str(error), "ls -l") from error
    if len(raw) > MOST_TEXT:
        raise BadRequest(
            f"{source} is larger than {MOST_TEXT >> 20} MB.",
            "A dump is a few hundred KB at most.",
            f"head -c 8M {shlex.quote(os.path.abspath(source))} | {ours('diagnose', '-')}",
        )
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"  # PowerShell's `>` writes UTF-16
    return raw.decode(encoding, "replace")


def read(text: str) -> tuple[Snapshot, ...]:
    """The snapshots in `text`, in the order in which they stand: several processes, or several samples of one.

    A text without a stack has one without a thread, if a line of it states what is wrong. Raises NotADump when no
    reader finds a frame, and no line states anything.
    """
    if text.lstrip()[:1] == "[":  # py-spy's own JSON, clean and sometimes of ten thousand threads
        found = tuple(filter(has_frames, pyspy_json.read([text])))
        if found:
            return not_too_many(found)
    kept, left_out = (text, 0) if len(text) < LARGE else sift(text)
    lines = printouts.with_tests_as_tracebacks(clean(kept))
    found = read_best(lines)
    if upside_down(found):
        turned = read_best(lines[::-1])
        found = turned if turned and not upside_down(turned) else found
    if found and left_out:
        remark = f"{left_out} lines that do not look like part of a dump"
        found = (replace(found[0], skipped=(remark, *found[0].skipped[:-1])), *found[1:])
    if not found:  # it runs no Python code
        found = tuple(one for one in (*pyspy_json.read([kept]), *pyspy_text.read(lines)) if one.pid and one.threads)
    said = statements(lines)
    mentioned = is_prose(lines, found, said)
    found = () if mentioned else found
    if any(one.threads for one in found):  # else the tasks that a log of slow steps names are all there is
        said += slow_steps(lines)
    if not found and any(one.kind != "interrupted" for one in said):
        found = (Snapshot((), format="lines of a log", skipped=unread(lines, is_no_python)),)
    if found:
        share = share_read(text, found, said)
        return tuple(replace(as_of_now(one, said), read=share) for one in not_too_many(found))
    if mentioned:
        raise NotADump("This is no dump: a text that names a line of code.", "No thread's stack stands in it.", NEXT)
    what = "There is no stack in this text." if text.strip() else "There is no text: the input is empty."
    raise NotADump(what, "None of its lines looks like a frame of a stack dump that this tool knows.", NEXT)


def not_too_many(found: tuple[Snapshot, ...]) -> tuple[Snapshot, ...]:
    """What was found. Raises NotADump where it is more than can be judged in a while."""
    count = sum(len(one.threads) for one in found)
    if count > MOST_THREADS:
        what = f"{count:,} threads are more than this tool judges: up to {MOST_THREADS:,}."
        why = "No process has as many; the text may hold very many dumps, one behind the other."
        raise NotADump(what, why, f"head -n 100000 dump.txt | {ours('diagnose', '-')}")
    return found


def is_prose(lines: list[str], found: tuple[Snapshot, ...], said: tuple[Statement, ...]) -> bool:
    """Whether a frame or two without a thread's head is all that a long text has, as a README names a line."""
    headed, frames = frames_read(found)
    raised = any(one.raised for snapshot in found for one in snapshot.threads)
    return 0 < frames <= MENTIONED and not (headed or raised or said) and len(lines) > PROSE * frames


def slow_steps(lines: list[str]) -> tuple[Statement, ...]:
    """What asyncio's debug log says beside stacks: which step held the loop, and for how long."""
    tasks = [task for one in LAST_READER.read(lines) for task in one.tasks if task.state.startswith("took ")]
    return tuple(
        Statement("loop-held", f"a step of {one.coroutine} {one.state}", float(one.state.split()[1]), one.frames)
        for one in tasks
    )


def as_of_now(snapshot: Snapshot, said: tuple[Statement, ...]) -> Snapshot:
    """The snapshot with what its text states, and its stacks as they stood: without what interrupted them."""
    threads: list[Thread] = []
    tasks = snapshot.tasks
    looked = tuple(map(without_own_look, snapshot.threads))
    kept = looked if tasks or not all(one.raised for one in looked) else snapshot.threads
    familiar = {id(frames): with_familiar_paths(frames) for frames in different(kept)}
    for one in kept:
        frames = familiar[id(one.frames)]
        thread, more = without_handler(one if frames is one.frames else replace(one, frames=frames))
        said += tuple(more)
        if thread.raised.endswith("CancelledError") and any(one.kind == "interrupted" for one in said):
            # Ctrl-C has cancelled asyncio.run()'s own task: where that was raised, it had waited
            tasks = (*tasks, Task("the cancelled task", thread.frames, coroutine=thread.frames[-1].function))
            continue
        if is_suspended(thread) and not (thread.os_id or thread.raised):
            name = thread.name or "a coroutine"
            tasks = (*tasks, Task(name, thread.frames, thread.frames[0].function, "", thread.frames[-1].function))
            continue
        raises = thread.frames and thread.frames[0].text.startswith("raise ") and not (thread.name or thread.os_id)
        threads.append(replace(thread, raised=thread.raised or "an exception") if raises else thread)
    tasks = tuple(one for one in tasks if not (one.frames and MAKES_TASK.search(one.frames[0].text)))
    return replace(snapshot, threads=tuple(threads), tasks=tasks, stated=tuple(dict.fromkeys(said)))


def share_read(text: str, found: tuple[Snapshot, ...], said: tuple[Statement, ...]) -> str:
    """How many lines of the text were read, and the numbers of those that were not; "" where that is not known."""
    if found[0].format in ("", JSON) or len(text) >= LARGE:
        return ""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    left = [line for one in found for line in one.skipped]
    stated = {one.text[:LONGEST_SKIPPED] for one in said}
    missed, at = [], 0
    for skipped in left:
        place = next((index for index in range(at, len(lines)) if skipped in lines[index][1]), None)
        if place is not None:
            at = place + 1
            partly = "\\n" in lines[place][1]  # many lines of a dump in one of the text's
            missed += [] if skipped in stated or partly else [lines[place][0]]
    least = "at least " if len(left) >= MOST_SKIPPED else ""
    numbers = f"; {least}not line{'s' if missed[1:] else ''} {ranges(missed)}" if missed else ""
    return f"{len(lines) - len(missed)} of {len(lines)} lines were read{numbers}"


def ranges(numbers: list[int]) -> str:
    """ "1, 4-6": numbers in order, those that follow each other as one."""
    made: list[list[int]] = []
    for number in numbers:
        if made and number == made[-1][-1] + 1:
            made[-1].append(number)
        else:
            made.append([number])
    return ", ".join(f"{one[0]}-{one[-1]}" if one[1:] else str(one[0]) for one in made)


def sift(text: str) -> tuple[str, int]:
    """The lines that could belong to a dump, and how many others there are: a day's log is read in seconds."""
    lines = text.splitlines()
    hopeful = {line: bool(HOPEFUL.search(line)) for line in dict.fromkeys(lines)}
    kept = [line for line in lines if hopeful[line]]
    return ("\n".join(kept) if len(kept) < len(lines) else text), len(lines) - len(kept)


def read_best(lines: list[str]) -> tuple[Snapshot, ...]:
    """What the most successful reader found: see `frames_read`. Nobody finds more than one that left no line."""
    different = list(dict.fromkeys(lines))
    best: tuple[Snapshot, ...] = ()
    for reader in READERS:
        if can_speak(getattr(reader, "GRAMMAR", None), different):
            found = tuple(filter(has_frames, reader.read(lines)))
            best = found if frames_read(found) > frames_read(best) else best
            if is_whole(found):
                break
    return best or LAST_READER.read(lines)


def is_whole(found: tuple[Snapshot, ...]) -> bool:
    """Whether every line was read, every stack has a head, and every head frames: the text is not upside down."""
    headed, frames = frames_read(found)
    filled = all(one.frames for snapshot in found for one in stacks(snapshot))
    return headed == frames > 0 and filled and not any(one.skipped for one in found)


def can_speak(grammar: Grammar | None, different: list[str]) -> bool:
    """Whether a reader finds a frame in any of the text's different lines: most know none of another format's.

    One without a grammar looks for a mark of its own before it reads a line.
    """
    if grammar is None or any(map(grammar.frames, different)):
        return True
    return any(head.frames for head in map(grammar.head, different) if head is not None)


def has_frames(snapshot: Snapshot) -> bool:
    return any(one.frames for one in stacks(snapshot))


def stacks(snapshot: Snapshot) -> list[Thread | Task]:
    return [*snapshot.threads, *snapshot.tasks]


def frames_read(found: tuple[Snapshot, ...]) -> tuple[int, int]:
    """How much was read: frames of threads and tasks whose head was understood, then all frames."""
    filled = [one for snapshot in found for one in stacks(snapshot) if one.frames]
    headed = [one for one in filled if one.name or getattr(one, "os_id", None)]
    return sum(len(one.frames) for one in headed), sum(len(one.frames) for one in filled)


def upside_down(found: tuple[Snapshot, ...]) -> bool:
    """Whether heads stand below their frames: a log viewer with the newest line first turned the text over."""
    threads = [one for snapshot in found for one in snapshot.threads]
    return len(threads) > 1 and not (threads[0].name or threads[0].os_id) and not threads[-1].frames
