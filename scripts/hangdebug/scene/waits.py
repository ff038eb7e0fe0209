"""What one thread waits in, over all samples: its frame, the calls it made, its line, the kernel's word."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hangdebug.evidence import light as re
from hangdebug.evidence.frames import calls, library_path, package
from hangdebug.evidence.kernel import EPOLL
from hangdebug.evidence.libraries import HANDLE, JOIN, POLL
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Frame, KernelWait, Reading, Thread
from hangdebug.evidence.source import called, entered, line_at, statement_at, unaliased, with_line
from hangdebug.evidence.vocabulary import EdgeKind
from hangdebug.scene.scene import Scene, View, identity, once, stacks_alone

SLEEPING = ("S", "D")
OFTEN = 10  # times a second
WORD = re.compile(r"[A-Za-z_]\w*")
ON_FD = re.compile(r"fd (\d+)(?: -> ([^,]+))?")


# Library calls whose own frame is innermost only while they wait, or for a moment.
WAITS_FOR_SURE = (
    "ssl.py:read",
    "ssl.py:do_handshake",
    "socket.py:readinto",
    "socket.py:create_connection",
    "socket.py:accept",
    "threading.py:wait",
    *JOIN,
    "threading.py:_shutdown",
    "selectors.py:select",
    "queue.py:get",
    "subprocess.py:_try_wait",
    "multiprocessing/connection.py:_recv",
    "multiprocessing/popen_fork.py:poll",
)
# Shares of the time: of one that computes, and of one that is kept from it by others.
COMPUTES, CONTENDS = 0.5, 0.1


@dataclass(frozen=True)
class Motion:
    """How much a thread moved. `same` of `samples` show the commonest place, `idle` show it idle.

    `woke` is how many context switches the kernel counted before the first attach, over `span` seconds;
    `cpu` is the share of one CPU that it used then. Both are None where the kernel was not asked twice.
    `runnable` is the share of all of the kernel's readings in which it was on a CPU or queued for one.
    """

    samples: int
    same: int
    idle: int
    woke: int | None = None
    cpu: float | None = None
    span: float = 0.0
    runnable: float = 0.0

    @property
    def in_place(self) -> bool:
        """It is in one place in every sample."""
        return self.same == self.samples

    @property
    def computes(self) -> bool:
        """It uses a CPU, or would if others did not, be it for CPUs or (woken every 5 ms) for the GIL."""
        contends = self.often and (self.cpu or 0) > CONTENDS
        return (self.cpu or 0) > COMPUTES or self.runnable > COMPUTES or contends

    @property
    def often(self) -> bool:
        """It wakes so often that no single wait lasts: many short waits, or one that polls."""
        return self.woke is not None and self.span > 0 and self.woke / self.span > OFTEN


@dataclass(frozen=True)
class Wait:
    """A thread that is not idle, where most samples have it."""

    view: View
    motion: Motion
    text: str | None
    called: frozenset[str]
    entered: str | None
    kernel: KernelWait | None
    coroutine: bool = False  # a task's await, not a thread's call

    @property
    def frame(self) -> Frame | None:
        return self.view.frame

    @property
    def leaf(self) -> bool:
        """Whether the application's frame is innermost: what it calls, if anything, is written in C."""
        return not self.view.inner

    @property
    def outermost(self) -> Frame | None:
        """The library call that the application made, before that one called on."""
        return self.view.inner[-1] if self.view.inner else None

    @property
    def running(self) -> bool | None:
        """On a CPU: the kernel's word before py-spy's, None where neither gave one."""
        if self.motion.cpu is not None and self.motion.span > 0:
            return self.motion.computes
        if self.kernel is not None and self.kernel.state:
            return self.kernel.state == "R"
        if self.view.thread.active and self.view.inner and calls(self.view.inner[0], *WAITS_FOR_SURE):
            return False  # py-spy has no kernel's word on every platform
        return self.view.thread.active

    def inside(self, *places: str) -> bool:
        """Whether one of these library calls was made by the application's frame, directly or not."""
        return any(calls(frame, *places) for frame in self.view.inner)

    def inside_package(self, *packages: str) -> bool:
        return any(package(frame) in packages for frame in self.view.inner)

    def inside_folder(self, *folders: str) -> bool:
        """The same for a part of a package, such as "django/db/"."""
        return any((library_path(frame.file) or "").startswith(folders) for frame in self.view.inner)

    def starts_with(self, *places: str) -> bool:
        """Whether the application's own line calls one of these."""
        return self.outermost is not None and calls(self.outermost, *places)

    def line_calls(self, *names: str) -> bool:
        """Whether the source line calls a name that ends in one of `names` ("sleep", "time.sleep")."""
        return any(full == name or full.endswith("." + name) for full in self.called for name in names)

    def line_says(self, *words: str) -> bool:
        """Whether the calls of the source line contain a word: "stdout" for `child.stdout.readline()`."""
        return any(word in words for full in self.called for word in WORD.findall(full))

    @property
    def descriptors(self) -> dict[int, str]:
        """What the kernel says the call is on: {17: "10.2.3.4:5432"}, {0: "/dev/pts/3"}, {9: "pipe"}."""
        return {int(fd): target for fd, target in ON_FD.findall(self.detail)}

    @property
    def on_network(self) -> bool:
        """Whether the kernel says that all of its descriptors are sockets: a TCP peer, or another socket."""
        found = self.descriptors.values()
        return bool(found) and all(one == "socket" or (one[-1:].isdigit() and ":" in one) for one in found)

    @property
    def syscall(self) -> str | None:
        """The system call that the kernel has it in, None where the kernel was not asked or did not say."""
        return self.kernel.syscall if self.kernel is not None else None

    @property
    def args(self) -> tuple[int, ...]:
        """The arguments of that system call."""
        return self.kernel.args if self.kernel is not None else ()

    @property
    def detail(self) -> str:
        """What that system call is on, in words: "fd 17 -> 10.2.3.4:5432", or ""."""
        return self.kernel.detail or "" if self.kernel is not None else ""

    def in_syscall(self, *names: str) -> bool:
        return self.syscall in names


def wait(scene: Scene, view: View) -> Wait:
    """What `view`'s thread waits in, in the place where most samples have it. It is worked out once for each view."""
    if id(view) not in scene.known_waits:
        scene.known_waits[id(view)] = (view, wait_of(scene, view))  # while a view lives, its id is nobody else's
    found: Wait = scene.known_waits[id(view)][1]
    return found


def wait_of(scene: Scene, view: View) -> Wait:
    seen = [other for other in scene.of(view) if not other.idle]
    common = Counter([other.key for other in seen]).most_common(1) if len(seen) > 1 else []
    place = [other for other in seen if not common or other.key == common[0][0]] or [view]
    best = next((other for other in reversed(place) if other.kernel and other.kernel.syscall), place[-1])
    moved = motion(scene, view)
    undisturbed = kernel_before_attach(scene, view) if moved.in_place else None  # attaching restarts a system call
    sources = scene.evidence.sources
    if best.frame is not None and best.inner and best.inner[-1].name in ("__exit__", "__aexit__"):
        best = replace(best, frame=with_line(sources, best.frame))
    statement = statement_at(sources, best.frame) if best.frame else ""
    text = line_at(sources, best.frame) if best.frame else None
    names = called(statement)
    if best.frame is not None:
        names |= unaliased(sources, best.frame, names)
    kernel = undisturbed or of_this_moment(best) or (None if moved.idle else kernel_before_attach(scene, view))
    return Wait(best, moved, text, names, entered(statement), kernel)


def of_this_moment(view: View) -> KernelWait | None:
    """The kernel's word just before the sample; None where it shows the loop poll, and the sample shows it at work."""
    polled = view.kernel is not None and view.kernel.syscall in EPOLL
    waits_there = any(calls(frame, *POLL) for frame in view.inner)
    return None if polled and view.role == "event-loop" and view.frame is not None and not waits_there else view.kernel


def motion(scene: Scene, view: View) -> Motion:
    seen = scene.of(view)
    keys = [other.key for other in seen if not other.idle]
    same = max(Counter(keys).values()) if len(keys) > 1 else len(keys)
    woke, cpu, span = motion_between(scene.evidence.readings, view.thread.os_id)
    words = kernel_words(scene, view)
    runnable = sum(word.state == "R" for word in words) / len(words) if words else 0.0
    return Motion(len(seen), same, sum(other.idle for other in seen), woke, cpu, span, runnable)


def kernel_words(scene: Scene, view: View) -> list[KernelWait]:
    """What the kernel said about a thread: before the first attach, and then with each sample."""
    readings = [one for one in (*scene.evidence.readings, *scene.evidence.attached) if one is not None]
    os_id = view.thread.os_id
    return [] if os_id is None else [one.waits[os_id] for one in readings if os_id in one.waits]


def motion_between(readings: tuple[Reading, ...], os_id: int | None) -> tuple[int | None, float | None, float]:
    """Context switches, CPU share and seconds between the first and the last reading of one thread."""
    seen = [(r.at, r.waits[os_id]) for r in readings if os_id is not None and os_id in r.waits]
    if len(seen) < 2:
        return None, None, 0.0
    (start, first), (end, last) = seen[0], seen[-1]
    span = end - start
    woke = None if first.switches is None or last.switches is None else last.switches - first.switches
    cpu = None if first.cpu is None or last.cpu is None or span <= 0 else (last.cpu - first.cpu) / span
    return woke, cpu, span


def samples_outside(scene: Scene, view: View, frame: Frame | None) -> tuple[int, int] | None:
    """In how many samples of the profile the thread was outside of `frame`'s function, and of how many.

    None without a frame or a profile. Its file names are short, so the function and the file's last part must do.
    """
    if frame is None:
        return None
    place, own = short_place(frame), profile_of(scene, view)
    total = sum(count for _, count in own)
    if not total:
        return None
    innermost = 1 if calls(frame, *HANDLE) else None  # each handler is called by it: only what has no frame ends there
    return sum(
        count for thread, count in own if not any(short_place(one) == place for one in thread.frames[:innermost])
    ), total


def profile_of(scene: Scene, view: View) -> list[tuple[Thread, int]]:
    """The thread's stacks in the profile, each with its count."""
    return [(thread, count) for thread, count in scene.evidence.profile if thread.os_id == view.thread.os_id]


def short_place(frame: Frame) -> tuple[str, str]:
    """What tells a function in the profile, whose file names are short."""
    return frame.name, file_name(frame)


def seen_at(scene: Scene, one: Wait, frame: Frame) -> Wait:
    """The same wait at a frame further out: the application's line there, and none of what that one calls."""
    same = one.frame is not None and (one.frame.function, one.frame.file) == (frame.function, frame.file)
    if same and (one.view.inner or one.frame == frame):
        return one
    statement = statement_at(scene.evidence.sources, frame)
    view = replace(one.view, frame=frame, inner=())
    return replace(one, view=view, text=line_at(scene.evidence.sources, frame), called=called(statement), entered=None)


def file_name(frame: Frame) -> str:
    return frame.file.replace("\\", "/").rpartition("/")[2]


def kernel_before_attach(scene: Scene, view: View) -> KernelWait | None:
    """The kernel's last word before the first attach."""
    for reading in reversed(scene.evidence.readings):
        found = reading.waits.get(view.thread.os_id or -1)
        if found:
            return found
    return None


@once
def stuck_workers(scene: Scene) -> tuple[Wait, ...]:
    """The pool's threads that are at work and in one place in every sample, the commonest place first."""
    found = [wait(scene, view) for view in scene.threads("worker") if not view.idle]
    found = [one for one in found if one.motion.in_place]
    places = Counter(file_and_line(one) for one in found)
    return tuple(sorted(found, key=lambda one: -places[file_and_line(one)]))


@once
def is_earned(scene: Scene) -> bool:
    """Whether more is known than stacks of one moment: then what is idle may be called well.

    Dumps that differ show that the process moves; a list of tasks, what its coroutines wait for.
    """
    if not stacks_alone(scene.evidence) or scene.evidence.tasks:
        return True
    places = {identity(view): {(one.idle, one.key) for one in scene.of(view)} for view in scene.last}
    moved = any(len(found) > 1 for found in places.values())
    return len(scene.samples) > 1 and (moved or len({len(sample) for sample in scene.samples}) > 1)


def file_and_line(one: Wait) -> tuple[str, int | None]:
    frame = one.frame or (one.view.section[0] if one.view.section else None)
    return (frame.file, frame.line) if frame else ("", None)


def name_of(view: View) -> str:
    one = view.thread
    return one.name or ("a thread" if one.os_id is None else f"thread {one.os_id}")


# -- who waits for whom, as others draw it ----------------------------------------------------------------


@dataclass(frozen=True)
class WaitsFor:
    """Who waits for whom: `thread`, standing in `frame`, goes on when `waits_for` does. Both are names of threads.

    `kind` is what lies between them: "lock", "future", "join", "pool" (its queue), "loop" (a coroutine handed to it) or
    "task" (a coroutine that only the loop can resume); `through` says it in words. `sure` is False where names agree
    and it may still be another object; `concluded` is True where it follows from who is at work, and no line says it.
    """

    thread: str
    waits_for: str
    through: str
    frame: Frame | None = None
    kind: EdgeKind = "lock"
    sure: bool = True
    concluded: bool = False

    def __str__(self) -> str:
        where = f" in {self.frame}" if self.frame else ""
        return f"{self.thread} waits{where} for {self.through}."


def drawing(edges: tuple[WaitsFor, ...]) -> str:
    """The chain of names, "MainThread -> cache-writer -> MainThread": a ring ends in the name that it begins with."""
    return " -> ".join([edge.thread for edge in edges] + [edges[-1].waits_for])
