"""What each thread did in each sample, as the rows that a timeline draws.

The loop comes first, then the thread at fault; threads that did the same are one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from hangdebug.answer.model import Diagnosis
from hangdebug.causes import CAUSES, cause_of
from hangdebug.causes.model import PictureGroup
from hangdebug.errors import printable
from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, is_application, library_path, package
from hangdebug.evidence.libraries import JOIN
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Evidence, Frame, KernelWait, Task, Thread
from hangdebug.evidence.source import called, entered, line_at, statement_at
from hangdebug.report import svg
from hangdebug.report.text import facts, short
from hangdebug.scene.graph import RESULT, SHUTDOWN, graph
from hangdebug.scene.locks import Lock, locks_held, locks_wanted
from hangdebug.scene.rings import described, node_name
from hangdebug.scene.rings import node_name as name_in_ring
from hangdebug.scene.scene import Scene, View, identity
from hangdebug.scene.scene import scene as scene_of
from hangdebug.scene.waits import Motion, Wait, name_of, wait


@dataclass(frozen=True)
class Kind:
    """What a thread waits in, coarsely: the group of its cause, or else what the kernel says.

    The letter stands where there is no room for words: colour is never the only sign.
    """

    name: str
    letter: str
    colour: str
    group: PictureGroup | None = None
    syscalls: tuple[str, ...] = ()


CALLS_OF_LOCKS = ("futex", "futex_waitv")
CALLS_OF_SLEEP = ("clock_nanosleep", "nanosleep")
CALLS_OF_CLIENTS = ("connect", "recvfrom", "recvmsg", "sendto", "sendmsg")
CALLS_OF_SERVERS = ("accept", "accept4", "poll", "ppoll", "epoll_wait", "epoll_pwait")
CALLS_OF_FILES = ("flock", "fcntl", "openat", "fsync")
CALLS_OF_CHILDREN = ("wait4", "waitid")

IDLE = Kind("idle", "", svg.PALE)
CPU = Kind("computes", "C", svg.ORANGE, "computes")
OTHER = Kind("something else", "?", svg.PAPER, "other")
KINDS = (
    CPU,
    Kind("another thread or a pool", "J", svg.VERMILLION, "thread"),
    Kind("lock", "L", svg.BLUE, "lock", CALLS_OF_LOCKS),
    Kind("queue", "Q", svg.GREY, "queue"),
    Kind("sleep", "S", svg.PURPLE, "sleep", CALLS_OF_SLEEP),
    Kind("network", "N", svg.SKY, "network", CALLS_OF_CLIENTS + CALLS_OF_SERVERS),
    Kind("file or terminal", "F", svg.YELLOW, "file", CALLS_OF_FILES),
    Kind("child process", "P", svg.GREEN, "child", CALLS_OF_CHILDREN),
    OTHER,
    IDLE,
)


@dataclass(frozen=True)
class Cell:
    """One thread in one sample."""

    kind: Kind
    words: str


Cells = tuple["Cell | None", ...]  # one a sample; None where a sample has no such thread


@dataclass(frozen=True)
class Row:
    """Threads that did the same in every sample."""

    label: str
    cells: Cells
    count: int = 1
    loop: bool = False
    fault: bool = False


def rows_of(scene: Scene, answer: Diagnosis, columns: Sequence[int]) -> list[Row]:
    """A row for each group of threads, over the samples `columns`: threads at work stand before those that idle."""
    threads: dict[object, list[View | None]] = {}
    for column, index in enumerate(columns):
        for view in scene.samples[index]:
            threads.setdefault(identity(view), [None] * len(columns))[column] = view
    known: dict[object, Cell] = {}
    loop = {identity(view) for view in scene.loop}
    groups: dict[tuple[str, Cells, object], list[View]] = {}
    stuck = at_fault(scene, answer)
    for who, views in threads.items():
        cells = tuple(cell(scene, view, known) if view else None for view in views)
        last = next(view for view in reversed(views) if view)
        groups.setdefault((last.role, cells, who if who in loop else None), []).append(last)
    rows = []
    for (_, cells, who), members in groups.items():
        fault = any(identity(view) in stuck for view in members)
        rows.append(Row(label(members, cells), cells, len(members), who is not None, fault))
    if not stuck:
        rows += coroutine_row(answer, len(columns))
    return sorted(rows, key=lambda row: (not row.loop, not row.fault, idle(row.cells), -row.count))


def coroutine_row(answer: Diagnosis, columns: int) -> list[Row]:
    """The row of the coroutine that the answer is about: no thread stands where it waits."""
    frame = answer.blocking_frame
    if answer.thread is None or frame is None:
        return []
    words = f"{answer.cause} in {place(Frame(frame.function, frame.file, frame.line))}"
    group = next(cause.picture for cause in CAUSES if cause.id == answer.cause)
    return [Row(f"coroutine {answer.thread.name}", (Cell(kind_of(group), words),) * columns, fault=True)]


def at_fault(scene: Scene, answer: Diagnosis) -> set[object]:
    """The threads that the answer is about, with those of its ring of waits.

    There are none where a coroutine waits, or where nothing is wrong.
    """
    if answer.thread is None or answer.state == "healthy":
        return set()
    ring = {edge.thread for edge in answer.waits_for if answer.state == "deadlock"}
    return {
        identity(view)
        for view in scene.last
        if (view.thread.name, view.thread.os_id) == (answer.thread.name, answer.thread.os_id)
        or (ring and name_in_ring(scene, identity(view)) in ring)
    }


def cell(scene: Scene, view: View, known: dict[object, Cell]) -> Cell:
    """What a thread does in one sample. Threads in the same place share the answer: there may be ten thousand."""
    kernel = view.kernel
    word = kernel and (kernel.syscall, kernel.state, kernel.detail)
    where = (view.role, view.idle, view.key, view.thread.active, word)
    if where not in known:
        known[where] = Cell(IDLE, "idle") if view.idle else at_work(scene, view)
    return known[where]


def at_work(scene: Scene, view: View) -> Cell:
    """What a thread that is not idle does in one sample."""
    one = wait(scene, view)
    if one.view.key != view.key:  # it moves: what it is in now, not where most samples have it
        one = now(scene, view)
    frame = one.frame or (view.section or view.thread.frames)[0]
    if one.running:  # its line changes, and it is still one hang
        return Cell(CPU, f"computes in {place(replace(frame, line=None))}")
    cause = cause_of(scene, one)[0]
    if cause.id == "other" and any(calls(inner, *JOIN, *SHUTDOWN, *RESULT) for inner in view.section):
        cause = next(one for one in CAUSES if one.id == "thread-join")
    syscall = one.kernel.syscall if one.kernel else None
    name = cause.id if cause.id not in ("other", "none") else syscall or "waits"
    return Cell(kind_of(cause.picture, syscall), f"{name} in {place(frame)}")


def now(scene: Scene, view: View) -> Wait:
    """What a thread waits in, by this sample alone."""
    sources, frame = scene.evidence.sources, view.frame
    if frame is None:
        return Wait(view, Motion(1, 1, 0), None, frozenset(), None, view.kernel)
    statement = statement_at(sources, frame)
    line = line_at(sources, frame)
    return Wait(view, Motion(1, 1, 0), line, called(statement), entered(statement), view.kernel)


def kind_of(group: PictureGroup, syscall: str | None = None) -> Kind:
    """The cause's own group comes first, then the kernel's word."""
    if group != "other":
        return next(kind for kind in KINDS if kind.group == group)
    return next((kind for kind in KINDS if syscall in kind.syscalls), OTHER)


def place(frame: Frame) -> str:
    file = frame.file.replace("\\", "/").rpartition("/")[2]
    return f"{frame.name} ({file}:{frame.line})" if frame.line else f"{frame.name} ({file})"


def label(members: Sequence[View], cells: Cells) -> str:
    role = "event loop" if members[0].role == "event-loop" else ""
    if len(members) == 1:
        name = name_of(members[0])
        return f"{name}: {role}" if role else name
    adjective = "idle " if idle(cells) else ""
    what = {"worker": "workers", "event-loop": "event loops"}.get(members[0].role, "threads")
    return f"{len(members):,} {adjective}{what}"


def idle(cells: Cells) -> bool:
    return all(one is None or one.kind is IDLE for one in cells)


def stretches(cells: Cells) -> list[tuple[int, int, Cell]]:
    """The runs of samples in which a thread did one thing: the first sample, the one after the last, what it did."""
    found: list[tuple[int, int, Cell]] = []
    for index, one in enumerate(cells):
        if one is None:
            continue
        if found and found[-1][1] == index and found[-1][2] == one:
            found[-1] = (found[-1][0], index + 1, one)
        else:
            found.append((index, index + 1, one))
    return found


# -- all stacks ----------------------------------------------------------------------------------------
# All stacks of a process, for `hang stacks`; and the evidence as a report prints it.
#
# Equal stacks are printed once. The one that the answer is about comes first, then the loop's, then those at work.

MOST_TEXT, MOST_ROWS = 200_000, 100  # letters of a dump, rows of the kernel
SHOWN_IDS, MOST_TARGETS = 6, 3
FOLDED = 2  # so many frames of libraries in a row are one line
ROLES = {"event-loop": "event loop", "worker": "pool thread", "main": "main thread"}


@dataclass(frozen=True)
class Stack:
    """Threads, or coroutines, that stand in the same place: who they are, what is known beside, the frames.

    `fault` is whether the answer is about them, `rests` whether they wait for work.
    """

    head: str
    beside: tuple[str, ...]
    frames: tuple[Frame, ...]
    fault: bool = False
    rests: bool = False


def as_stacks(evidence: Evidence, answer: Diagnosis, whole: bool = False) -> str:
    """Every stack of the last sample, each with the kernel's wait and its locks; `whole` folds no frame."""
    scene = scene_of(evidence)
    bare = [thread for thread in evidence.snapshots[-1].threads if not thread.frames]
    lines = [", ".join(facts(answer)) + f": {counted(len(scene.last), 'thread')}", ""]
    for stack in stacks_of(scene, answer):
        frames = (f"   {line}" for line in frame_lines(stack.frames, answer, whole))
        lines += [stack.head, *(f"      {line}" for line in stack.beside), *frames, ""]
    lines += [f"{counted(len(bare), 'thread')} without a Python frame", ""] if bare else []
    return printable("\n".join(lines))


def stacks_of(scene: Scene, answer: Diagnosis, sample: int = -1) -> list[Stack]:
    """All stacks of a sample, and those of coroutines that were read: equal ones once, the most telling first."""
    groups: dict[object, list[View]] = {}
    for view in scene.samples[sample]:
        groups.setdefault((view.thread.frames, view.role, *beside(scene, view, alike=True)), []).append(view)
    tasks: dict[object, list[Task]] = {}
    for task in scene.evidence.later or scene.evidence.tasks:
        tasks.setdefault((task.frames, task.awaits and (task.awaits.kind, task.awaits.method)), []).append(task)
    found = [(importance(scene, group, answer), stack_of_threads(scene, group, answer)) for group in groups.values()]
    found += [(task_importance(same, answer), stack_of_tasks(same, answer)) for same in tasks.values()]
    return [stack for _, stack in sorted(found, key=lambda one: one[0])]


def stack_of_threads(scene: Scene, members: list[View], answer: Diagnosis) -> Stack:
    first, told = members[0], beside(scene, members[0], alike=len(members) > 1)
    fault = not importance(scene, members, answer)[0]
    return Stack(head(members), told, first.thread.frames, fault, first.idle)


def stack_of_tasks(same: list[Task], answer: Diagnosis) -> Stack:
    first, names = same[0], ", ".join(task.name for task in same[:SHOWN_IDS]) + (", ..." if same[SHOWN_IDS:] else "")
    told = []
    if first.awaits and len(same) == 1:  # by its address a lock is known again in another stack
        told.append(f"awaits {first.awaits} at {first.awaits.id:#x}")
    elif first.awaits or first.waits_on:
        told.append(f"awaits {first.awaits or first.waits_on}")
    told += [f"inside of the lock at {lock:#x}" for lock in dict.fromkeys(lock for one in same for lock in one.inside)]
    fault = not task_importance(same, answer)[0]
    return Stack(f"{len(same)} x  coroutine {names}", tuple(told), first.frames, fault)


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


Importance = tuple[bool, bool, bool, bool, bool, bool, int]


def importance(scene: Scene, group: list[View], answer: Diagnosis) -> Importance:
    """The thread at fault first, those in its ring or chain, the loop's; then those at work, and most alike."""
    first = group[0]
    fault = answer.thread is not None and any(view.thread == answer.thread for view in group)
    chained = {edge.thread for edge in answer.waits_for} | {edge.waits_for for edge in answer.waits_for}
    near = any(node_name(scene, identity(view)) in chained for view in group)
    return not fault, not near, False, first.role != "event-loop", first.frame is None, first.idle, -len(group)


def task_importance(same: list[Task], answer: Diagnosis) -> Importance:
    """The coroutine that the answer is about stands before the threads, all others behind them."""
    place = place_of(answer)
    fault = place is not None and any((frame.file, frame.line) == place for frame in same[0].frames)
    by_thread = answer.role in ROLES and answer.role != "main" and answer.thread is not None
    return not fault or by_thread, True, True, True, not same[0].frames, True, -len(same)


def place_of(answer: Diagnosis) -> tuple[str, int | None] | None:
    frame = answer.blocking_frame
    return (frame.file, frame.line) if frame is not None else None


def head(members: list[View]) -> str:
    """How many, what they are called, and their ids: those of the kernel, which `top -H` shows too."""
    first, names = members[0], list(dict.fromkeys(map(name_of, members)))
    ids = [str(view.thread.os_id) for view in members if view.thread.os_id]
    shown = ", ".join(ids[:SHOWN_IDS]) + (f" and {len(ids) - SHOWN_IDS} more" if ids[SHOWN_IDS:] else "")
    called = names[0] + (f" and {counted(len(names) - 1, 'other name')}" if names[1:] else "")
    what = [ROLES.get(first.role, ""), "idle" if first.idle else "", f"thread {shown}" if shown else ""]
    told = ", ".join(word for word in what if word)
    return f"{len(members)} x  {called}" + (f"   {told}" if told else "")


def beside(scene: Scene, view: View, alike: bool = False) -> tuple[str, ...]:
    """What the kernel says of it, the locks that it waits for and is inside of, and whom it waits for.

    `alike` leaves out the numbers of descriptors, in which threads differ that do the same.
    """
    if view.idle and view.role == "worker":
        return ()
    one, sources = wait(scene, view), scene.evidence.sources
    found = [f"kernel: {kernel_words(one.kernel, alike)}"] if one.kernel is not None and one.kernel.syscall else []
    found += [f"wants {lock_words(lock)}" for lock in dict.fromkeys(locks_wanted(one, sources))]
    for held in locks_held(view.thread.frames, sources):
        found.append(f"inside of {lock_words(held.lock)}, since {short(held.frame)}")
    seen, node = graph(scene), identity(view)
    targets = seen.edges[node].targets[:MOST_TARGETS] if node in seen.edges else ()
    return (*found, *(f"waits for {described(scene, seen, node, target).through}" for target in targets))


def kernel_words(word: KernelWait, alike: bool) -> str:
    state = state_in_words(word)
    shown = replace(word, detail=re.sub(r"^fd \d+ ?", "", word.detail)) if alike and word.detail else word
    return f"{shown}{f', {state}' if state and word.syscall != 'running' else ''}"


def lock_words(lock: Lock) -> str:
    owner = f" of {lock.owner}" if lock.owner else ""
    return f"{lock.name}{owner}{f' at {lock.at}' if lock.at else ''}"


def frame_lines(frames: tuple[Frame, ...], answer: Diagnosis, whole: bool) -> Iterator[str]:
    """Innermost first. What it stands in is always shown; further out the frames of libraries are one line."""
    place = place_of(answer)
    if not frames:
        return
    yield line_of(frames[0], place)
    for own, run in groupby(frames[1:], is_application):
        kept = list(run)
        if own or whole or len(kept) < FOLDED:
            yield from (line_of(frame, place) for frame in kept)
        else:
            names = list(dict.fromkeys(package(frame) or str(library_path(frame.file)) for frame in kept))
            yield f"   ... {len(kept)} frames of {', '.join(names[:4])}{', ...' if names[4:] else ''}"


def line_of(frame: Frame, place: tuple[str, int | None] | None) -> str:
    return f"{'->' if (frame.file, frame.line) == place else '  '} {short(frame)}"


# -- as a report prints it -----------------------------------------------------------------------------


def kernel_rows(evidence: Evidence) -> Iterator[tuple[str, ...]]:
    """The kernel's word on each thread before the first attach, alike ones as one row."""
    reading = evidence.readings[-1] if evidence.readings else next((one for one in evidence.attached if one), None)
    if reading is None:
        return
    names = {thread.os_id: thread.name for thread in evidence.snapshots[-1].threads}
    groups: dict[tuple[str, str, str], list[str]] = {}
    for tid, word in reading.waits.items():
        key = (word.syscall or "unknown", word.detail or "", state_in_words(word))
        groups.setdefault(key, []).append(f"{names.get(tid) or 'no Python thread'} ({tid})")
    for (call, detail, letter), members in list(groups.items())[:MOST_ROWS]:
        who = ", ".join(members[:3]) + (f" and {len(members) - 3} more" if len(members) > 3 else "")
        yield who, call, detail, letter


def state_in_words(wait: KernelWait) -> str:
    words = {
        "S": "asleep",
        "D": "asleep, and cannot be woken",
        "R": "runs",
        "T": "stopped",
        "t": "traced",
        "Z": "ended",
    }
    return words.get(wait.state, wait.state)


def printed(evidence: Evidence) -> str:
    """The last sample as py-spy would print it, alike stacks once."""
    snapshot = evidence.snapshots[-1]
    groups: dict[tuple[Frame, ...], list[Thread]] = {}
    for thread in snapshot.threads:
        groups.setdefault(thread.frames, []).append(thread)
    blocks = [f"Process {snapshot.pid}: {snapshot.command}"]
    for frames, threads in groups.items():
        heads = [f'Thread {one.os_id or "?"}: "{one.name}"' for one in threads[:3]]
        more = [f"and {len(threads) - 3} more threads in the same place"] if len(threads) > 3 else []
        blocks.append("\n".join([*heads, *more, *(f"    {short(frame)}" for frame in frames)]))
    return "\n\n".join(blocks)


def beginning(text: str) -> str:
    """The beginning of a dump, up to a line's end: a secret that was cut in two would not be known for one."""
    if len(text) <= MOST_TEXT:
        return text
    end = text.rfind("\n", 0, MOST_TEXT) + 1 or MOST_TEXT
    return f"{text[:end]}... {len(text) - end:,} characters more, see the evidence itself"
