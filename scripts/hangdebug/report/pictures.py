"""The pictures of a diagnosis: engine nouns in, a Picture out.

    pictures.timeline(evidence)          every thread over the samples, by what it waits in
    pictures.wait_graph(diagnosis)       who waits for whom
    pictures.flame(evidence.profile)     where a busy loop spends its time
    pictures.latency({"as it was": verification})    pictures.threads_over_aborts({"bad": pressure, "good": pressure})

The first three are drawn as SVG by the standard library alone; the last two, of charts.py, need matplotlib.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Sequence

from hangdebug.answer.diagnose import diagnose
from hangdebug.answer.model import Diagnosis, Verdict
from hangdebug.causes import cause_of
from hangdebug.errors import HangError
from hangdebug.evidence.frames import calls
from hangdebug.evidence.model import Evidence, Frame
from hangdebug.evidence.source import called, entered, line_at, statement_at
from hangdebug.report import svg
from hangdebug.report.charts import latency, threads_over_aborts
from hangdebug.report.recording import flame
from hangdebug.report.svg import Picture, wait_graph
from hangdebug.scene.graph import JOIN, RESULT, SHUTDOWN
from hangdebug.scene.rings import label as name_in_ring
from hangdebug.scene.scene import Scene, View, identity
from hangdebug.scene.scene import scene as scene_of
from hangdebug.scene.waits import Motion, Wait, name_of, wait

__all__ = ["Picture", "flame", "latency", "threads_over_aborts", "timeline", "wait_graph"]

MOST_ROWS, MOST_COLUMNS = 22, 40
LEFT, TOP, ROW, LOOP_ROW = 196, 44, 24, 34
WORDS_ROOM, LETTER_ROOM = 90, 11  # what words, or a letter, need of a bar


@dataclass(frozen=True)
class Kind:
    """What a thread waits in, coarsely. The letter stands where there is no room for words: colour is never the only sign."""

    name: str
    letter: str
    colour: str
    causes: tuple[str, ...] = ()
    syscalls: tuple[str, ...] = ()


IDLE = Kind("idle", "", svg.PALE)
CPU = Kind("computes", "C", svg.ORANGE, ("cpu-bound", "regex", "serialization"))
OTHER = Kind("something else", "?", svg.PAPER)
KINDS = (
    CPU,
    Kind(
        "another thread or a pool",
        "J",
        svg.VERMILLION,
        (
            "executor-shutdown",
            "thread-join",
            "future-result",
            "default-executor",
            "run-coroutine-threadsafe",
            "interpreter-exit",
            "threadpool-limit",
        ),
    ),
    Kind("lock", "L", svg.BLUE, ("lock", "connection-pool", "import-lock", "fork"), ("futex", "futex_waitv")),
    Kind("queue", "Q", svg.GREY, ("queue",)),
    Kind("sleep", "S", svg.PURPLE, ("sleep",), ("clock_nanosleep", "nanosleep")),
    Kind(
        "network",
        "N",
        svg.SKY,
        ("http-client", "database", "socket", "dns"),
        (
            "connect",
            "accept",
            "accept4",
            "recvfrom",
            "recvmsg",
            "sendto",
            "sendmsg",
            "poll",
            "ppoll",
            "epoll_wait",
            "epoll_pwait",
        ),
    ),
    Kind(
        "file or terminal",
        "F",
        svg.YELLOW,
        ("file-io", "stdin", "debugger", "logging"),
        ("flock", "fcntl", "openat", "fsync"),
    ),
    Kind("child process", "P", svg.GREEN, ("subprocess",), ("wait4", "waitid")),
    OTHER,
    IDLE,
)


@dataclass(frozen=True)
class Cell:
    """One thread in one sample."""

    kind: Kind
    words: str


@dataclass(frozen=True)
class Row:
    """Threads that did the same in every sample. A cell is None where a sample has no such thread."""

    label: str
    cells: tuple[Cell | None, ...]
    count: int = 1
    loop: bool = False
    fault: bool = False


def timeline(seen: Evidence | Scene, answer: Diagnosis | None = None) -> Picture:
    """Every thread over the samples, coloured by what it waits in: the loop's row on top, the hang one solid bar.

    Raises HangError where there is none, as of a process that the kernel has stopped.
    """
    scene = seen if isinstance(seen, Scene) else scene_of(seen)
    answer = answer or diagnose(scene.evidence)
    columns = spread(len(scene.samples))
    rows, hidden = shown(rows_of(scene, answer, columns))
    if not rows:
        raise HangError("There is no thread to draw.", answer.summary)
    times = moments(scene.evidence, columns)
    alt, caption = told(rows, hidden, answer, len(columns), sum(len(sample) > 0 for sample in scene.samples))
    parts, y = heading(times), TOP
    for row in rows:
        height = LOOP_ROW if row.loop or row.fault else ROW
        parts += drawn(row, y, height, len(columns))
        y += height + 4
    if hidden:
        parts.append(svg.text(14, y + 15, f"and {hidden} more threads, in other places", svg.WIDTH - 28, svg.FAINT))
        y += ROW
    legend, height = key([row for row in rows], y + 10)
    return Picture(svg.card(y + 10 + height, parts + legend, alt), alt, caption)


def spread(count: int) -> list[int]:
    """Which samples are drawn: all, or as many as there is room for, evenly."""
    if count <= MOST_COLUMNS:
        return list(range(count))
    return [round(index * (count - 1) / (MOST_COLUMNS - 1)) for index in range(MOST_COLUMNS)]


def moments(evidence: Evidence, columns: Sequence[int]) -> list[str]:
    """When each sample was taken, from the first one on; their numbers where that is not known."""
    readings = [evidence.attached[index] if index < len(evidence.attached) else None for index in columns]
    if all(readings):
        return [f"{one.at - readings[0].at:.2f} s" for one in readings]
    return [f"sample {index + 1}" for index in columns]


def rows_of(scene: Scene, answer: Diagnosis, columns: Sequence[int]) -> list[Row]:
    """The loop, the thread at fault, then the rest: alike ones as one row, those at work before those that idle."""
    threads: dict[object, list[View | None]] = {}
    for column, index in enumerate(columns):
        for view in scene.samples[index]:
            threads.setdefault(identity(view), [None] * len(columns))[column] = view
    known: dict[tuple, Cell] = {}
    loop, groups = {identity(view) for view in scene.loop}, {}
    stuck = at_fault(scene, answer)
    for who, views in threads.items():
        cells = tuple(view and cell(scene, view, known) for view in views)
        last = next(view for view in reversed(views) if view)
        groups.setdefault((last.role, cells, who if who in loop else None), []).append(last)
    rows = [
        Row(
            label(members, cells),
            cells,
            len(members),
            who is not None,
            any(identity(view) in stuck for view in members),
        )
        for (_, cells, who), members in groups.items()
    ]
    frame = answer.blocking_frame
    if not stuck and answer.thread is not None and frame is not None:  # a coroutine waits: no thread stands there
        words = f"{answer.cause} in {place(Frame(frame.function, frame.file, frame.line))}"
        rows.append(
            Row(f"coroutine {answer.thread.name}", (Cell(kind_of(answer.cause), words),) * len(columns), fault=True)
        )
    return sorted(rows, key=lambda row: (not row.loop, not row.fault, idle(row.cells), -row.count))


def at_fault(scene: Scene, answer: Diagnosis) -> set[object]:
    """The threads that the answer is about, its ring of waits included; none where it is a coroutine, or nothing is wrong."""
    if answer.thread is None or answer.state == "healthy":
        return set()
    ring = {edge.thread for edge in answer.waits_for if answer.state == "deadlock"}
    return {
        identity(view)
        for view in scene.last
        if (view.thread.name, view.thread.os_id) == (answer.thread.name, answer.thread.os_id)
        or ring
        and name_in_ring(scene, identity(view)) in ring
    }


def cell(scene: Scene, view: View, known: dict[tuple, Cell]) -> Cell:
    """What a thread does in one sample. Threads in the same place share the answer: there may be ten thousand."""
    kernel = view.kernel
    where = (
        view.role,
        view.idle,
        view.key,
        view.thread.active,
        kernel and (kernel.syscall, kernel.state, kernel.detail),
    )
    if where not in known:
        known[where] = Cell(IDLE, "idle") if view.idle else judged(scene, view)
    return known[where]


def judged(scene: Scene, view: View) -> Cell:
    one = wait(scene, view)
    if one.view.key != view.key:  # it moves: what it is in now, not where most samples have it
        sources, frame = scene.evidence.sources, view.frame
        one = Wait(
            view,
            Motion(1, 1, 0),
            line_at(sources, frame) if frame else None,
            called(statement_at(sources, frame)) if frame else frozenset(),
            entered(statement_at(sources, frame)) if frame else None,
            view.kernel,
        )
    frame = one.frame or (view.section or view.thread.frames)[0]
    if one.running:
        return Cell(
            CPU, f"computes in {place(replace(frame, line=None))}"
        )  # its line changes, and it is still one hang
    cause = cause_of(Verdict("loop-blocked", 0.7), one, scene)[0].id
    if cause == "other" and any(calls(inner, *JOIN, *SHUTDOWN, *RESULT) for inner in view.section):
        cause = "thread-join"
    syscall = one.kernel.syscall if one.kernel else None
    name = cause if cause not in ("other", "none") else syscall or "waits"
    return Cell(kind_of(cause, syscall), f"{name} in {place(frame)}")


def kind_of(cause: str, syscall: str | None = None) -> Kind:
    """The engine's own reading of the wait comes first, then the kernel's word."""
    return next((kind for kind in KINDS if cause in kind.causes), None) or next(
        (kind for kind in KINDS if syscall in kind.syscalls), OTHER
    )


def place(frame: Frame) -> str:
    file = frame.file.replace("\\", "/").rpartition("/")[2]
    return f"{frame.name} ({file}:{frame.line})" if frame.line else f"{frame.name} ({file})"


def label(members: Sequence[View], cells: tuple[Cell | None, ...]) -> str:
    role = "event loop" if members[0].role == "event-loop" else ""
    if len(members) == 1:
        name = name_of(members[0])
        return f"{name}: {role}" if role else name
    adjective = "idle " if idle(cells) else ""
    what = {"worker": "workers", "event-loop": "event loops"}.get(members[0].role, "threads")
    return f"{len(members):,} {adjective}{what}"


def idle(cells: Sequence[Cell | None]) -> bool:
    return all(one is None or one.kind is IDLE for one in cells)


def shown(rows: list[Row]) -> tuple[list[Row], int]:
    """The rows for which there is room, and how many threads are in the others; rows of idle threads are kept."""
    if len(rows) <= MOST_ROWS:
        return rows, 0
    crowd = [row for row in rows[MOST_ROWS:] if row.count > 1][-1:]
    kept = rows[: MOST_ROWS - len(crowd)] + crowd
    return kept, sum(row.count for row in rows) - sum(row.count for row in kept)


# -- drawing -------------------------------------------------------------------------------------------


def heading(times: Sequence[str]) -> list[str]:
    """The time of each sample that has room for it, over a thin line where the sample begins."""
    width, parts, free = span(len(times)), [svg.text(14, 24, "thread", LEFT - 24, svg.FAINT)], 0.0
    for index, words in enumerate(times):
        x = LEFT + index * width
        if x >= free:
            parts.append(svg.text(x + 2, 24, words, 80, svg.FAINT))
            free = x + svg.wide(words) + 14
        parts.append(svg.line([(x, 32), (x, 38)], svg.LINE))
    return parts


def span(count: int) -> float:
    return (svg.WIDTH - LEFT - 14) / max(count, 1)


def drawn(row: Row, y: float, height: float, count: int) -> list[str]:
    """One row: its name, and a bar for each stretch in which it did one thing."""
    middle, parts = y + height / 2 + 4, []
    parts.append(svg.text(14, middle, row.label, LEFT - 22, bold=row.loop or row.fault))
    for start, end in stretches(row.cells):
        one, x, width = row.cells[start], LEFT + start * span(count), (end - start) * span(count) - 2
        hang = row.fault and one.kind is not IDLE
        edge = svg.INK if hang else svg.GREY if one.kind is OTHER else "none"
        parts.append(
            svg.box(
                x,
                y,
                width,
                height,
                one.kind.colour,
                edge,
                radius=3,
                thick=2.5 if hang else 1,
                dashed=one.kind is OTHER and not hang,
                title=f"{row.label}: {one.words}",
            )
        )
        ink = svg.PAPER if one.kind.colour in svg.DARK else svg.INK
        words = f"{row.count} x {one.words}" if row.count > 1 and one.kind is not IDLE else one.words
        room = width - 12
        if room > WORDS_ROOM:
            parts.append(svg.text(x + 6, middle, words, room, ink, bold=hang))
        elif width > LETTER_ROOM and one.kind.letter:
            parts.append(svg.text(x + width / 2, middle, one.kind.letter, width, ink, anchor="middle"))
    return parts


def stretches(cells: Sequence[Cell | None]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for index, one in enumerate(cells):
        if one is None:
            continue
        if found and found[-1][1] == index and cells[index - 1] == one:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found


def key(rows: Sequence[Row], y: float) -> tuple[list[str], float]:
    """What the colours and letters mean: of those that are there."""
    there = {one.kind for row in rows for one in row.cells if one}
    x, parts, height = 14.0, [], 34.0
    for kind in (kind for kind in KINDS if kind in there):
        words = f"{kind.letter}  {kind.name}".strip() if kind.letter else kind.name
        if x + svg.wide(words) + 40 > svg.WIDTH:
            x, y, height = 14.0, y + 20, height + 20
        parts.append(svg.box(x, y, 14, 14, kind.colour, svg.GREY, radius=2, dashed=kind is OTHER))
        parts.append(svg.text(x + 20, y + 11, words, 200, svg.INK))
        x += svg.wide(words) + 40
    return parts, height


def told(rows: Sequence[Row], hidden: int, answer: Diagnosis, columns: int, samples: int) -> tuple[str, str]:
    """The picture in words, and what to see in it."""
    lines = [
        f"{row.label}: {', then '.join(dict.fromkeys(one.words for one in row.cells if one))}" for row in rows[:12]
    ]
    count = sum(row.count for row in rows) + hidden
    threads, moments = f"{count} thread{'s' * (count != 1)}", f"{samples} sample{'s' * (samples != 1)}"
    alt = f"Timeline of {threads} over {moments}. {'. '.join(lines)}."
    faults = [row for row in rows if row.fault]
    loop = (
        f"The event loop is the top row{', and idle' if idle(rows[0].cells) else ''}" if rows and rows[0].loop else ""
    )
    if not faults:
        moves = " Rows in pieces move on." if any(len(stretches(row.cells)) > 1 for row in rows) else ""
        why = "nothing hangs" if answer.state == "healthy" else answer.state
        return alt, f"{loop or 'There is no event loop here'}. No bar has a dark edge: {why}.{moves}"
    words = next(one.words for one in reversed(faults[0].cells) if one)
    solid = "one solid bar" if len(stretches(faults[0].cells)) == 1 and columns > 1 else "a bar"
    who = (
        "The event loop, the top row,"
        if faults[0].loop
        else f"{f'{loop}. ' if loop else ''}The hang, {faults[0].label},"
    )
    rest = f" The other dark edges, {len(faults) - 1}, belong to it." if faults[1:] else ""
    late = " One sample is one moment: it does not show that it stays there." if columns == 1 else ""
    return alt, f"{who} is {solid} with a dark edge: {words}.{rest}{late}"
