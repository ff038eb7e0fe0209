"""What each thread did in each sample, as the rows that a timeline draws.

The loop comes first, then the thread at fault; threads that did the same are one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hangdebug.answer.model import Diagnosis
from hangdebug.causes import CAUSES, cause_of
from hangdebug.causes.model import PictureGroup
from hangdebug.evidence.frames import calls
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame
from hangdebug.evidence.source import called, entered, line_at, statement_at
from hangdebug.report import svg
from hangdebug.scene.graph import JOIN, RESULT, SHUTDOWN
from hangdebug.scene.rings import node_name as name_in_ring
from hangdebug.scene.scene import Scene, View, identity
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
