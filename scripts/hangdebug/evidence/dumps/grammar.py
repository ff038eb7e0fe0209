"""What all line-by-line formats share: heads begin a stack, frames follow, and something tells which end is new.

A format says how its heads and frames look (Grammar); this module puts them together. A stack without a head
becomes an unnamed thread; a head that comes again begins the next sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field, replace
from itertools import islice
from typing import Callable, Literal

from hangdebug.evidence import light as re
from hangdebug.evidence.dumps.clean import APART
from hangdebug.evidence.dumps.stated import is_interrupt
from hangdebug.evidence.frames import different, is_suspended, package
from hangdebug.evidence.libraries import CALLED_LAST
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame, Snapshot, Task, Thread

MOST_SKIPPED, LONGEST_SKIPPED = 50, 200
VERSION = re.compile(r"[/\\]python(3\.\d+)t?[/\\]")
FILES = re.compile(r"""File "|file '""")
LOCALS = re.compile(r"^\s*(?:Arguments|Locals)::?$")
LOCAL = re.compile(r"^\s*([A-Za-z_]\w*): <([^<>]{1,200}) at (0x[0-9a-fA-F]{1,16})>$")
A_LOCK = re.compile(r"\bR?Lock\b|\block\b", re.IGNORECASE)
NOT_SOURCE = re.compile(r"^\s*(?:[~^\s]+$|\[Previous line repeated|\.\.\.|\u2026|<-|#|<truncated|<built-in |[\"']$)")
# What a person writes for threads that stand as the one above does: `... (33 more threads, all identical)`.
AGAIN = re.compile(
    r"(?=.{0,160}\b(?:identical|same|alike|similar|like (?:this|that|it|the))\b)"
    r"(?!.*\b(?:dump|sample|second|minute|time|line)s?\b)"
    r".{0,80}?\b(?P<count>\d{1,4}) (?:more|others?|further|additional)\b"
    r".{0,80}?\b(?:threads?|workers?|stacks?|like)\b",
    re.IGNORECASE,
)
RAISED = re.compile(
    r"^\s{0,12}(?:[A-Za-z_][\w.]{0,100})?(?:Error|Exception|Exit|Timeout|Cancelled)(?::\s.*)?$|"
    r"^(?:[a-z_]\w{0,60}\.){1,8}[A-Z]\w{2,80}(?::\s.*)?$|^[A-Z][a-z]+[A-Z]\w{1,80}: .*$|"
    r"^Failed: Timeout|^KeyboardInterrupt:?\s*$"
)
# Who calls whom in every program: (callee, caller). They show which end of a printed stack is new.
CALLERS = frozenset(
    [
        ("_run_once", "run_forever"),
        ("run_forever", "run_until_complete"),
        ("_run", "_run_once"),
        ("select", "_run_once"),
        ("_bootstrap_inner", "_bootstrap"),
        ("run", "_bootstrap_inner"),
        ("_run_code", "_run_module_as_main"),
        ("_wait_for_tstate_lock", "join"),
        ("_run_code", "run_path"),
        ("_main", "spawn_main"),
        ("run", "_bootstrap"),
    ]
)
HeadKind = Literal["thread", "task", "process", "python", "break", "section"]
IMPORTS = ("_call_with_frames_removed", "exec_module")


@dataclass(frozen=True)
class Head:
    """A line that begins something; a "break" begins the next sample, a "section" nothing that is kept.

    `order` says where the newest call of the stack stands ("first" or "last"), "" if the line does not.
    """

    kind: HeadKind = "thread"
    name: str = ""
    os_id: int | None = None
    active: bool | None = None
    owns_gil: bool | None = None
    order: str = ""
    state: str = ""
    waits_on: str = ""
    coroutine: str = ""
    anonymous: bool = False  # it may stand below another head of the same stack
    frames: tuple[Frame, ...] = ()  # what the line itself says of them
    key: str = ""  # what tells it from others where names can be alike


@dataclass(frozen=True)
class Grammar:
    """How one format looks. `source` says that lines of source code stand below the frames."""

    format: str
    head: Callable[[str], Head | None]
    frames: Callable[[str], list[Frame]]
    order: str = "first"
    source: bool = False


@dataclass
class Stack:
    head: Head | None
    frames: list[Frame] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    raised: str = ""  # it is an exception's traceback, not a stack as it stands


def read(lines: Iterable[str], grammar: Grammar) -> tuple[Snapshot, ...]:
    """One Snapshot a process or sample, in order. Stacks before any head belong to an unnamed process."""
    return tuple(snapshots(lines, grammar))


def snapshots(lines: Iterable[str], grammar: Grammar) -> Iterator[Snapshot]:
    kept = list(lines)
    heads = {line: grammar.head(line) for line in dict.fromkeys(kept) if line.strip()}
    plain = {}  # lines that are one frame and nothing else: ten thousand threads share few
    for line, head in heads.items():
        found = grammar.frames(line) if head is None else []
        if len(found) == 1 and found[0].file:
            plain[line] = (found[0], depth(line))
    draft = Draft(grammar)
    for line in kept:
        if line in plain and draft.goes_on():
            draft.add(*plain[line])
            continue
        head = heads.get(line) if draft.may_begin(line) else None
        if head is not None and draft.ends_before(head):
            yield draft.snapshot()
            draft = draft.following(head)
        draft.take(line, head)
    if draft.stacks:
        yield draft.snapshot()


class Draft:
    """The sample that is being read. `in_locals` is the depth of a heading: deeper lines are locals."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.process: Head | None = None
        self.python: str | None = None
        self.stacks: list[Stack] = []
        self.seen: set[tuple[str, int | None]] = set()
        self.skipped: list[str] = []
        self.in_locals: int | None = None
        self.after: int | None = None  # the depth of the frame in the line before
        self.blank = False  # after an empty line
        self.apart = False  # after a line that is no frame, but may be the next stack's own head
        self.fenced = False  # after a fence, and before the next head
        self.first: list[tuple[str, list[Frame]]] = []  # frames without a number, before any other: perhaps prose

    def following(self, head: Head) -> Draft:
        """The draft of the next sample, of the same process unless `head` names another one."""
        fresh = Draft(self.grammar)
        if head.kind != "process":
            fresh.process, fresh.python = self.process, self.python
        return fresh

    def may_begin(self, line: str) -> bool:
        return self.in_locals is None or depth(line) <= self.in_locals

    def goes_on(self) -> bool:
        """Whether a frame belongs to the stack that is being read."""
        return self.in_locals is None and bool(self.stacks) and not self.apart and not self.fenced

    def add(self, frame: Frame, at: int) -> None:
        """What `take` does with a line that is one frame of the stack that is being read."""
        self.stacks[-1].frames.append(frame)
        self.stacks[-1].depths.append(at)
        self.after, self.blank, self.first = at, False, []

    def ends_before(self, head: Head) -> bool:
        if head.kind in ("process", "break"):
            return any(stack.frames or stack.head for stack in self.stacks)
        return head.kind == "thread" and identity(head) in self.seen

    def take(self, line: str, head: Head | None) -> None:
        if self.in_locals is not None and depth(line) > self.in_locals:
            self.take_local(line)
            return
        self.in_locals = None
        if head is not None:
            self.take_head(head)
            if head.kind in ("thread", "task") and not head.frames and len(self.grammar.frames(line)) > 1:
                self.take_frames(line)  # all of them stand on the head's line
        elif not line.strip():
            self.after, self.blank, self.fenced = None, True, self.fenced or line == APART
            return
        elif LOCALS.match(line):
            self.in_locals = depth(line)
        elif not self.take_frames(line) and not self.take_source(line) and not self.take_again(line):
            self.apart = self.apart or (self.blank and not NOT_SOURCE.match(line))
            if not NOT_SOURCE.match(line):
                self.drop_first()
            self.skip(line)
        self.blank = False

    def take_head(self, head: Head) -> None:
        self.after, self.apart, self.fenced, self.first = None, False, False, []
        if head.kind == "process":
            self.process = head
        elif head.kind == "python":
            self.python = head.name
        elif head.kind != "break":
            last = self.stacks[-1] if self.stacks else None
            if head.anonymous and last is not None and not last.frames and last.head is not None:
                last.head = replace(last.head, order=head.order)
            else:
                self.stacks.append(Stack(head, list(head.frames) if head.kind == "thread" else []))
                if head.kind == "thread" and (head.name or head.os_id is not None):
                    self.seen.add(identity(head))

    def take_frames(self, line: str) -> bool:
        frames = self.grammar.frames(line)
        if not frames:
            return False
        if not self.stacks:
            if (
                frames[0].line is None and not FILES.search(line) and len(frames) == 1
            ):  # prose before the dump: "see below (app.py)"
                self.first.append((line, frames))
                return True
            self.stacks.append(Stack(None))
            for early, found in self.first:
                self.stacks[-1].frames += [one for one in found if one.file]
                self.stacks[-1].depths.append(depth(early))
        elif self.stacks[-1].frames and (self.fenced or (self.apart and not self.grammar.source)):
            self.stacks.append(Stack(None))
        self.apart, self.fenced, self.first = False, False, []
        self.stacks[-1].frames += [one for one in frames if one.file]
        self.after = depth(line)
        self.stacks[-1].depths.append(self.after)
        return True

    def take_local(self, line: str) -> None:
        """Only where an object is: which lock a name means. What it holds is nobody's business."""
        found = LOCAL.match(line)
        if found and self.stacks and self.stacks[-1].frames:
            last = self.stacks[-1].frames[-1]
            locks = (*last.locks, found[1]) if A_LOCK.search(found[2]) else last.locks
            self.stacks[-1].frames[-1] = replace(last, locals={**last.locals, found[1]: found[3]}, locks=locks)

    def take_source(self, line: str) -> bool:
        """Whether the line belongs to the frame above it: its source, or marks below that."""
        stack = self.stacks[-1] if self.stacks else None
        if stack is None or not stack.frames:
            return False
        if RAISED.match(line) and self.grammar.source:
            stack.raised, self.after = line.strip(), None
            return True
        if self.after is None or not self.grammar.source:
            return False
        if NOT_SOURCE.match(line):
            return depth(line) > self.after
        last = stack.frames[-1]
        if not last.text and last.line:
            stack.frames[-1] = replace(last, text=line.strip()[:1000])
            return True
        return depth(line) > self.after  # a statement of several lines

    def take_again(self, line: str) -> bool:
        """Whether the line says how many more threads stand as the last one does: those are added."""
        found = AGAIN.match(line[:200]) if self.stacks and self.stacks[-1].frames else None
        last = self.stacks[-1] if self.stacks else None
        if found is None or last is None or kind_of(last) != "thread":
            return False
        head = replace(last.head, os_id=None) if last.head else None
        self.stacks += [replace(last, head=head) for _ in range(int(found["count"]))]
        return True

    def drop_first(self) -> None:
        """Frames without a number, and then something else: they were prose."""
        for line, _ in self.first:
            self.skip(line)
        self.first = []

    def skip(self, line: str) -> None:
        if len(self.skipped) < MOST_SKIPPED:
            self.skipped.append(line.strip()[:LONGEST_SKIPPED])

    def snapshot(self) -> Snapshot:
        stacks, raised = split_off_tracebacks(self.stacks)
        for one in raised:
            self.skip(f"a traceback of {one.raised}")
        share(stacks)
        frames = innermost_first([one for one in stacks if one.frames], self.grammar.order)
        threads = tuple(thread(one, frames.get(id(one), ())) for one in stacks if kind_of(one) == "thread")
        tasks = tuple(task(one, frames.get(id(one), ())) for one in stacks if kind_of(one) == "task")
        process = self.process or Head("process")
        return Snapshot(
            threads,
            process.os_id,
            process.name,
            self.python or python_of(threads),
            self.grammar.format,
            tuple(self.skipped),
            tasks,
        )


def unread(lines: Iterable[str], is_read: Callable[[str], object]) -> tuple[str, ...]:
    """The first lines of a text of which `is_read` says no, as a Snapshot keeps them in `skipped`."""
    left = (line.strip()[:LONGEST_SKIPPED] for line in lines if line.strip() and not is_read(line))
    return tuple(islice(left, MOST_SKIPPED))


def depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def identity(head: Head) -> tuple[str, int | None]:
    return head.key or head.name, head.os_id


def kind_of(stack: Stack) -> str:
    return stack.head.kind if stack.head else "thread"


def split_off_tracebacks(stacks: list[Stack]) -> tuple[list[Stack], list[Stack]]:
    """The stacks of threads, and the tracebacks of exceptions that stand in the same log."""
    alone = [
        bool(one.raised)
        and not one.raised.endswith("CancelledError")  # Ctrl-C may have raised that: where a coroutine had waited
        and not is_interrupt(one.raised, one.frames)
        and (one.head is None or one.head.anonymous)
        for one in stacks
    ]
    raised = [one for one, out in zip(stacks, alone) if out]
    kept = [one for one, out in zip(stacks, alone) if not out]
    return (kept, raised) if any(one.frames for one in kept) else (stacks, [])


def share(stacks: list[Stack]) -> None:
    """Give equal stacks the same list of frames: the frames of equal lines are the same objects already."""
    known: dict[tuple[int, ...], list[Frame]] = {}
    for one in stacks:
        one.frames = known.setdefault(tuple(map(id, one.frames)), one.frames)


def innermost_first(stacks: list[Stack], default: str) -> dict[int, tuple[Frame, ...]]:
    """The frames of each stack, innermost first, by its id(). One printer made them all: they vote together."""
    said = {one.head.order for one in stacks if one.head and one.head.order}
    shows = {id(frames): vote_on_order(frames) for frames in {id(one.frames): one.frames for one in stacks}.values()}
    votes = sum(shows[id(one.frames)] or -is_tree(one.depths) for one in stacks) or sum(
        vote_by_owner(one.frames) for one in stacks if one.head is None
    )
    turned: dict[tuple[int, bool], tuple[Frame, ...]] = {}
    made = {}
    for one in stacks:
        word = one.head.order if one.head and one.head.order else default
        newest_first = votes > 0 if votes and len(said) < 2 else word == "first"
        key = (id(one.frames), newest_first)
        if key not in turned:
            turned[key] = tuple(one.frames if newest_first else reversed(one.frames))
        made[id(one)] = turned[key]
    return made


def vote_on_order(frames: list[Frame]) -> int:
    """Above 0 if the frames look innermost first, below 0 for outermost first, 0 where nothing shows it."""
    names = [frame.name for frame in frames]
    count = sum(((one, two) in CALLERS) - ((two, one) in CALLERS) for one, two in zip(names, names[1:]))
    if count or len(names) < 2:
        return count
    return is_base(names[-1], names[-2]) - is_base(names[0], names[1])


def vote_by_owner(frames: list[Frame]) -> int:
    """Of a stack without a head: an end in a library that calls nobody back, such as a client's, is new."""
    return (package(frames[0]) in CALLED_LAST) - (package(frames[-1]) in CALLED_LAST)


def is_tree(depths: list[int]) -> bool:
    """Whether each frame stands deeper than the one above it: so people draw who calls whom."""
    return len(depths) > 2 and all(one < two for one, two in zip(depths, depths[1:]))


def is_base(name: str, neighbour: str) -> bool:  # a stack begins at a module that no import runs
    return name == "<module>" and neighbour not in IMPORTS


def thread(stack: Stack, frames: tuple[Frame, ...]) -> Thread:
    head = stack.head
    raised = "" if not stack.raised or is_interrupt(stack.raised, stack.frames) else stack.raised
    if head is None:
        return Thread(frames, raised=raised)
    if head.anonymous and head.order == "last" and not stack.raised and is_suspended(Thread(frames)):
        raised = "an exception that was cut off"  # nothing tells this traceback from a coroutine's own stack
    return Thread(frames, head.name, head.os_id, head.active, head.owns_gil, raised)


def task(stack: Stack, frames: tuple[Frame, ...]) -> Task:
    head = stack.head or Head("task")
    frames = frames or head.frames
    first, last = (frames[0].function, frames[-1].function) if frames else ("", "")
    return Task(head.name, frames, head.waits_on or first, head.state, head.coroutine or last)


def python_of(threads: Iterable[Thread]) -> str | None:
    """The version that the standard library's path names, such as "3.11"."""
    found = (VERSION.search(frame.file) for frames in different(threads) for frame in frames)
    return next((one[1] for one in found if one), None)
