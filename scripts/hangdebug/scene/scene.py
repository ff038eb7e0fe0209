"""A dump seen from one event loop: which thread runs it, what that thread is in, who works for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import field, replace
from functools import cached_property, lru_cache
from typing import Any

from hangdebug.evidence.frames import (
    calls,
    ends_whole,
    is_anyio_worker,
    is_application,
    is_known_library,
    is_parked,
    library_path,
    lone_root,
    package,
    role_by_name,
    role_in_stack,
    since_fork,
)
from hangdebug.evidence.kernel import EPOLL, POLLS, number
from hangdebug.evidence.libraries import (
    ANYIO_WORKER,
    ASYNC,
    HANDLE,
    LOOP,
    POLL,
    POOL,
    RUNS_ITS_LOOP,
    RUNS_LOOP,
    RUNS_SOMETHING,
    SERVERS,
    SERVERS_IN_C,
    SERVES,
    SUSPENDED,
    SYNCHRONOUS,
    SYNCHRONOUS_SIDE,
)
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Evidence, Frame, KernelWait, Process, Snapshot, Thread
from hangdebug.evidence.source import called, in_coroutine, in_generator, statement_at
from hangdebug.evidence.vocabulary import Role

MOST_LOOPS = 8
FOREIGN = ("trio", "curio")  # loops that poll for themselves, also where a handler of another one runs them
once = lru_cache(maxsize=MOST_LOOPS)  # for a function of a scene, or of all, alone: several rules ask the same

KEPT: list[tuple[Evidence, tuple[Scene, ...]]] = []


@dataclass(frozen=True)
class View:
    """One thread in one sample. `section` holds the frames inside of the loop's or the pool's machinery.

    `frame` is the innermost one of the application, `inner` the library calls that it made, innermost first;
    `idle` means that the loop runs no frame, or that the worker waits for work.
    """

    thread: Thread
    role: Role
    section: tuple[Frame, ...]
    frame: Frame | None
    inner: tuple[Frame, ...]
    idle: bool
    kernel: KernelWait | None = None
    twin: int = 0  # how many threads before it in the same sample bear the same name, or none

    @cached_property
    def key(self) -> tuple[Frame | None, tuple[tuple[str, str], ...]]:
        """Equal in two samples when the thread is in the same place."""
        return (self.frame, tuple((frame.function, frame.file) for frame in self.inner))


@dataclass(frozen=True, eq=False)
class Scene:
    """All samples seen from one event loop. `loop` holds its thread once a sample, and is () without a loop.

    `guessed` is why the loop's thread had to be guessed, "" when its frames show it. A scene is equal to itself alone:
    so what costs time is worked out `once` for it.
    """

    evidence: Evidence
    samples: tuple[tuple[View, ...], ...]
    by_thread: Mapping[object, tuple[View, ...]]
    loop: tuple[View, ...] = ()
    guessed: str = ""
    known_waits: dict[int, tuple[View, Any]] = field(default_factory=dict, repr=False)  # what waits.py has worked out

    @property
    def last(self) -> tuple[View, ...]:
        return self.samples[-1]

    def of(self, view: View) -> tuple[View, ...]:
        """The same thread in every sample that has it."""
        return self.by_thread[identity(view)]

    @cached_property
    def by_role(self) -> Mapping[Role, tuple[View, ...]]:
        """The threads of the last sample."""
        roles = dict.fromkeys(view.role for view in self.last)
        return {role: tuple(view for view in self.last if view.role == role) for role in roles}

    @cached_property
    def different(self) -> tuple[View, ...]:
        """The threads of the last sample, of those that share a stack the first."""
        found: dict[int, View] = {}
        for view in self.last:
            found.setdefault(id(view.thread.frames), view)
        return tuple(found.values())

    def threads(self, role: Role) -> tuple[View, ...]:
        return self.by_role.get(role, ())

    def shows(self, *places: str) -> View | None:
        """The first thread of the last sample that has one of these library calls anywhere in its stack."""
        return next((v for v in self.different if any(calls(f, *places) for f in v.thread.frames)), None)


def scene(evidence: Evidence) -> Scene:
    """The scene of the server's own loop."""
    return scenes(evidence)[0]


def scenes(evidence: Evidence) -> tuple[Scene, ...]:
    """One scene for each event loop, the server's own first; one with an empty `loop` where there is none.

    Those of the last evidence are kept, for its picture is drawn after its diagnosis: 10,000 threads take seconds.
    """
    for known, found in KEPT:
        if known is evidence:
            return found
    found = build_scenes(evidence)
    KEPT[:] = [(evidence, found)]
    return found


def build_scenes(evidence: Evidence) -> tuple[Scene, ...]:
    samples = tuple(views(evidence, index) for index in range(len(evidence.snapshots)))
    loops = sorted((v for v in samples[-1] if v.role == "event-loop"), key=importance, reverse=True)
    guessed = ""
    if not loops:
        chosen, guessed = cut_loop(evidence, samples)
        if chosen is not None:
            loops = [chosen]
            samples = tuple(tuple(as_loop(v) if identity(v) == identity(chosen) else v for v in s) for s in samples)
    index = by_thread(samples)
    beside = loops and stacks_alone(evidence) and all(is_helper(one, samples[-1]) for one in loops)
    own = (Scene(evidence, samples, index),) if beside else ()  # the main thread is judged first
    runs = [tuple(v for v in index[identity(one)] if v.role == "event-loop") for one in loops[:MOST_LOOPS]]
    found = tuple(Scene(evidence, samples, index, run, guessed) for run in runs)
    return (*own, *found) or (Scene(evidence, samples, index),)


def stacks_alone(evidence: Evidence) -> bool:
    """Whether stacks are all that is known, as in most pastes: no kernel was asked, and no list of tasks read twice."""
    asked = evidence.readings or evidence.watch or evidence.attached or evidence.profile
    return not (asked or evidence.later or evidence.clients)


def is_helper(one: View, sample: tuple[View, ...]) -> bool:
    """Whether a loop in a side thread serves its own program: a file system's, a portal's, a test's."""
    main = next((view for view in sample if view.role == "main"), None)
    return main is not None and not any(package(frame) in SERVERS for frame in one.thread.frames)


def by_thread(samples: tuple[tuple[View, ...], ...]) -> dict[object, tuple[View, ...]]:
    """The views of each thread in the order of the samples."""
    found: dict[object, list[View]] = {}
    for sample in samples:
        for one in sample:
            found.setdefault(identity(one), []).append(one)
    return {key: tuple(same) for key, same in found.items()}


def views(evidence: Evidence, index: int) -> tuple[View, ...]:
    snapshot = evidence.snapshots[index]
    reading = evidence.attached[index] if index < len(evidence.attached) else None
    waits = reading.waits if reading else {}
    seen: Counter[str] = Counter()
    main = lone_root(snapshot)
    made = []
    roles: dict[int, Role | None] = {}  # by stack, as the next: many threads share one, and it says the same of all
    known: dict[tuple[int, Role], View] = {}
    for thread in snapshot.threads:
        if thread.frames and not thread.raised:
            stack = id(thread.frames)
            if stack not in roles:
                roles[stack] = role_in_stack(thread)
            role = roles[stack] or role_by_name(thread, snapshot, main)
            kernel = waits.get(thread.os_id or -1)
            one = known.get((stack, role)) or view_of(evidence, thread, role, kernel)
            if one.role != "event-loop":
                known[stack, role] = one
            own = one.thread if one.role == "event-loop" else thread
            made.append(View(own, one.role, one.section, one.frame, one.inner, one.idle, kernel, seen[thread.name]))
            seen[thread.name] += thread.os_id is None
    return tuple(made)


def view_of(evidence: Evidence, thread: Thread, role: Role, kernel: KernelWait | None) -> View:
    border = written_loop(evidence, thread.frames) if role in ("main", "other") else None
    whole = with_compiled(evidence, thread) if role == "event-loop" else thread
    one = view(whole, role if border is None else "event-loop", kernel, border)
    foreign = any(package(frame) in FOREIGN for frame in one.inner)
    own = one.role == "event-loop" and not foreign and polls_its_own(kernel, evidence.process)
    return replace(one, idle=True) if own else one


def with_compiled(evidence: Evidence, thread: Thread) -> Thread:
    """The loop's thread with the frames of a native look, where its own stack ends with the call of a handler."""
    if not calls(thread.frames[0], *HANDLE):
        return thread
    return replace(thread, frames=(*evidence.compiled.get(thread.os_id or -1, ()), *thread.frames))


def polls_its_own(kernel: KernelWait | None, process: Process) -> bool:
    """Whether it waits for events of the server's own loop, whatever its stack: nest_asyncio runs it from a handler."""
    return kernel is not None and kernel.syscall in EPOLL and kernel.args[:1] != () and kernel.args[0] in process.polls


def written_loop(evidence: Evidence, frames: tuple[Frame, ...]) -> int | None:
    """How many frames stand inside of a loop that only the source shows: one written in C has no frame of its own."""
    for index in reversed(range(len(frames))):
        if is_application(frames[index]):
            names = called(statement_at(evidence.sources, frames[index]))
            if names & RUNS_LOOP or any(name.rpartition(".")[2] in RUNS_ITS_LOOP for name in names):
                return index
    return None


def view(thread: Thread, role: Role, kernel: KernelWait | None = None, border: int | None = None) -> View:
    """`border` is how many frames stand inside of the loop, where no frame shows it."""
    frames = since_fork(thread.frames)
    section = (
        frames[:border]
        if border is not None
        else loop_section(frames)
        if role == "event-loop"
        else pool_section(frames, role)
    )
    idle = role == "worker" and is_parked(thread.frames)
    if role == "event-loop":
        idle = not section and loop_polls(frames, kernel)
        if not section and not idle:  # something without a Python frame runs there: compiled code, a driver
            return View(thread, role, frames[:1], None, (), False, kernel)
    application = [index for index, frame in enumerate(section) if is_application(frame)]
    if not application:  # perhaps the application is installed as a package, as in many images
        application = [index for index, frame in enumerate(section) if not is_known_library(frame)]
    first = application[0] if application else None
    frame = None if first is None else section[first]
    if role == "event-loop" and not section and kernel is None and calls(frames[0], *RUNS_SOMETHING):
        section, idle = frames[:1], False
    if role == "event-loop" and section and frame is None:  # a loop in C has no frame: the kernel shows it poll
        idle = idle or (kernel is not None and kernel.syscall in EPOLL)
    return View(thread, role, section, frame, section[:first], idle, kernel)


def loop_polls(frames: tuple[Frame, ...], kernel: KernelWait | None) -> bool:
    """Whether a loop that runs no frame waits for events.

    It does in the selector's own call. Where the innermost frame is the one that calls a handler, what runs has no
    frame. In any other frame of the loop's, and below a loop in C, it does unless the kernel shows another wait; a
    thread that the kernel has on a CPU may be on its way to the next event.
    """
    if not frames or calls(frames[0], *POLL):
        return True
    if calls(frames[0], *HANDLE):
        return False
    return kernel is None or kernel.syscall in (None, "running", *POLLS)


def loop_section(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The frames inside of the loop: all of them if it has none, () if it only polls.

    A loop nested in another one's handler (nest_asyncio) belongs to the section of the outer loop.
    """
    border = len(frames)
    for index in reversed(range(len(frames))):
        if calls(frames[index], *LOOP):
            border = index
        elif border < len(frames) and is_application(frames[index]):
            break
    inside = [frame for frame in frames[:border] if not calls(frame, *HANDLE)]
    return () if all(calls(frame, *POLL) for frame in inside) else tuple(inside)


def pool_section(frames: tuple[Frame, ...], role: Role) -> tuple[Frame, ...]:
    keep = len(frames)
    while keep and (
        calls(frames[keep - 1], "threading.py:_bootstrap", "threading.py:_bootstrap_inner", *POOL, "threading.py:run")
        or (role == "worker" and calls(frames[keep - 1], ANYIO_WORKER))
    ):
        keep -= 1
    return frames[:keep]


def importance(view: View) -> tuple[bool, bool, bool]:
    """Several threads can run a loop: the server's comes first, then the main thread's."""
    return (
        any(package(frame) in SERVERS for frame in view.thread.frames),
        view.thread.name == "MainThread",
        not any(calls(frame, *POOL) for frame in view.thread.frames),
    )


def cut_loop(  # noqa: C901  a list of reasons, each with its own line
    evidence: Evidence, samples: tuple[tuple[View, ...], ...]
) -> tuple[View | None, str]:
    """The main thread, if it must be the loop's although its stack shows no loop, and why.

    CPython 3.9 drops the frames below a coroutine into which an exception was thrown, which is what a
    client's disconnect does; people also paste the top of a stack only.
    """
    main = next((v for v in samples[-1] if v.role == "main"), None)
    if main is None and len(samples[-1]) == 1:  # a lone stack, perhaps without its header
        main = samples[-1][0] if samples[-1][0].role == "other" else None
    if main is None or calls(main.thread.frames[-1], "threading.py") or calls(main.thread.frames[0], *SUSPENDED):
        return None, ""
    if any(calls(frame, *SYNCHRONOUS) for frame in main.thread.frames) or evidence.process.server in SERVERS_IN_C:
        return None, ""
    if asks_another_loop(main.thread.frames):
        return None, ""
    if len(main.thread.frames) > len(since_fork(main.thread.frames)):  # a child: that loop is its parent's
        return None, ""
    if any(frame.name in SERVES and package(frame) in ASYNC for frame in main.thread.frames):  # gdb can miss frames
        return main, "its frames are those of an async server"
    if ends_whole(main.thread.frames):
        return None, ""
    if has_whole_stacks(evidence.snapshots[-1]):
        return None, ""
    bottom = main.thread.frames[-1]
    if evidence.snapshots[-1].format == "py-spy JSON" and not_cut(evidence, bottom):
        return None, ""
    if any(in_coroutine(evidence.sources, frame) for frame in main.thread.frames):
        return main, "its source shows a coroutine"
    if any(package(frame) in ASYNC for frame in main.thread.frames):
        return main, "its frames are those of an async server"
    if evidence.process.server or any(view.role == "worker" and is_anyio_worker(view.thread) for view in samples[-1]):
        return main, "the process is an async server"
    return None, ""


def asks_another_loop(frames: tuple[Frame, ...]) -> bool:
    """Whether all that it shows of async packages is their synchronous side: it waits for another thread's loop."""
    places = [library_path(frame.file) or "" for frame in frames if package(frame) in ASYNC]
    side = [path.startswith(SYNCHRONOUS_SIDE) for path in places]
    return any(side) and all(own or path == "asgiref/sync.py" for own, path in zip(side, places))


def not_cut(evidence: Evidence, bottom: Frame) -> bool:
    """Whether CPython 3.9 cannot have dropped frames below this one: it does so below coroutines and generators."""
    return in_coroutine(evidence.sources, bottom) is False and not in_generator(evidence.sources, bottom)


def has_whole_stacks(snapshot: Snapshot) -> bool:
    """Whether its stacks must be complete: read by py-spy from a CPython that does not cut them."""
    return snapshot.format == "py-spy JSON" and is_uncut(snapshot)


def is_uncut(snapshot: Snapshot) -> bool:
    """Whether py-spy showed whole stacks of this CPython; who pasted its text may have cut them."""
    minor = (snapshot.python or "3.9").split(".")[1:2]
    return snapshot.format.startswith("py-spy") and bool(minor) and number(minor[0]) > 9


def as_loop(view_: View) -> View:
    return replace(view(view_.thread, "event-loop", view_.kernel), twin=view_.twin)


def identity(view_: View) -> object:
    """What tells a thread from the others in every sample: the kernel's id, or its name where a dump has none."""
    return view_.thread.os_id if view_.thread.os_id is not None else (view_.thread.name, view_.twin)
