"""The nouns of the evidence: frames, threads, tasks, dumps, and what the kernel says. Verbs live elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import cached_property

from hangdebug.evidence.light import dataclass
from hangdebug.evidence.vocabulary import StatementKind

# Where the kernel has a thread whose control group is frozen, as by `docker pause`: with cgroups of version 2 within
# get_signal(), where nobody else is in state S; with version 1 in a place of its own, or where it slept already. That
# shows as state D, which no wait has that a signal ends: to sleep, or for a lock.
FROZEN_IN = {
    "S": ("get_signal", "do_freezer_trap"),
    "D": ("__refrigerator", "hrtimer_nanosleep", "do_nanosleep", "futex_wait", "futex_do_wait"),
}


@dataclass(frozen=True)
class Frame:
    """One call. `function` and `file` stand as the dump prints them; `line` is None where it has none.

    `text` is the source line, where the dump prints it below the frame; `locals` are addresses of its variables,
    `locks` the names of those that are locks.
    """

    function: str
    file: str
    line: int | None = None
    note: str = field(default="", compare=False)  # a remark of whoever pasted it, no part of the call
    text: str = field(default="", compare=False)
    locals: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    locks: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @cached_property
    def name(self) -> str:
        """The last component: `gen` of `stream.<locals>.gen`. CPython before 3.11 has nothing else."""
        return self.function.rsplit(".", 1)[-1]

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{self.function} ({where})"


@dataclass(frozen=True)
class KernelWait:
    """What the Linux kernel says a thread does, from `/proc/PID/task/TID/{syscall,wchan,stat,status}`.

    `syscall` is a name ("futex"), "running" while the thread is on a CPU or queued for one, or None where
    the kernel did not say. `detail` is the syscall's object in words ("fd 17 -> 10.2.3.4:5432").
    `switches` counts voluntary and involuntary context switches, `cpu` is seconds of CPU time, both since
    the thread began. `lock` is the address of the lock of Python's that a futex of the thread's own stands for, and
    `owner` the kernel's id of the thread that has it; 0 where that is not known.
    """

    syscall: str | None = None
    args: tuple[int, ...] = ()
    detail: str | None = None
    state: str = ""
    wchan: str = ""
    switches: int | None = None
    cpu: float | None = None
    lock: int = 0
    owner: int = 0

    @property
    def held(self) -> str:
        """By what the kernel keeps it from running: "stopped" (a signal, a debugger), "frozen" (its group), or ""."""
        if self.state in ("T", "t"):
            return "stopped"
        return "frozen" if self.wchan.startswith(FROZEN_IN.get(self.state, ())) else ""

    def __str__(self) -> str:
        return f"{self.syscall or 'unknown'}{f' ({self.detail})' if self.detail else ''}"


@dataclass(frozen=True)
class Thread:
    """One stack, innermost frame first. `active` and `owns_gil` are py-spy's words, None where unsaid.

    `raised` is the exception whose traceback this is: then it shows where that was raised, and nobody stands there now.
    """

    frames: tuple[Frame, ...]
    name: str = ""
    os_id: int | None = None
    active: bool | None = None
    owns_gil: bool | None = None
    raised: str = ""

    def __str__(self) -> str:
        head = f'Thread {self.os_id} "{self.name}"'
        return "\n    ".join([head, *map(str, self.frames)])


@dataclass(frozen=True)
class Awaited:
    """The object that a task waits for: its type, its address, the method that waits, and its counts by name.

    `of` are the addresses of the tasks behind it, where it stands for several: those of a group, or of `gather`.
    """

    kind: str
    id: int
    method: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    of: tuple[int, ...] = ()

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        return f"{self.kind}{'.' if self.method else ''}{self.method}{f' ({counts})' if counts else ''}"


@dataclass(frozen=True)
class Task:
    """A coroutine that asyncio runs, innermost frame first. `waits_on` is what it awaits, in the dump's words.

    The rest is known where the process's memory was read: `inside` are the addresses of the locks that it is
    inside of by `async with`, `holds` the names of the other managers that it is inside of (those of a pool's
    connections), `timed` whether a timeout ends its wait, `expired` whether one has run out and did not end it, `ready`
    the address of the future that it awaits if that is done, so that the loop has only to run it (0 if not), `ends` the
    names in its application's code that could end the wait of another ("release", "set"), `id` its own address,
    `cancels` how often it was cancelled, less `uncancel()` (3.11+), `begun` whether the client of the request that it
    serves has had the head of its answer.
    """

    name: str
    frames: tuple[Frame, ...] = ()
    waits_on: str = ""
    state: str = ""
    coroutine: str = ""
    id: int | None = None
    awaits: Awaited | None = None
    inside: tuple[int, ...] = ()
    timed: bool = False
    ends: frozenset[str] = frozenset()
    cancels: int = 0
    holds: tuple[str, ...] = ()
    expired: bool = False
    ready: int = 0
    begun: bool = False


@dataclass(frozen=True)
class Function:
    """A function of the application that could end a wait, or that leads to one; "<module>" is a module's own body.

    `root` is whether somebody else may call it: a route, a callback. What it says, each with its line: `ends`
    ("set" is called there, "+set" handed on), `calls` (names that it mentions), `awaits` ("ready.wait"); `loops`
    are first and last lines. `yields` means that it can be suspended while no task's stack shows it.
    """

    name: str
    file: str
    line: int
    last: int
    owner: str = ""
    root: bool = False
    yields: bool = False
    ends: tuple[tuple[str, int], ...] = ()
    calls: tuple[tuple[str, int], ...] = ()
    awaits: tuple[tuple[str, int], ...] = ()
    loops: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        return f"{f'{self.owner}.' if self.owner else ''}{self.name} ({self.file}:{self.line})"


@dataclass(frozen=True)
class Statement:
    """What a line of a text says of the process, in so many words; `text` is that line.

    `kind` is what it says: a step held the event loop, a worker or job was killed or interrupted because it did not
    answer, a test ran out of time, a server waits for what is open before it ends, or the stack is of C code alone.
    `seconds` is for how long, `frames` the place that it names, innermost first.
    """

    kind: StatementKind
    text: str
    seconds: float | None = None
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """One dump of one process. `skipped` holds the first lines that the reader could not place.

    Of a pasted text, `stated` is what its lines say, and `read` how many of them were read, in words.
    """

    threads: tuple[Thread, ...]
    pid: int | None = None
    command: str = ""
    python: str | None = None
    format: str = ""
    skipped: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()
    stated: tuple[Statement, ...] = ()
    read: str = field(default="", compare=False)

    def __str__(self) -> str:
        return "\n".join([f"Process {self.pid}: {self.command}", *map(str, self.threads)])


@dataclass(frozen=True)
class Reading:
    """The kernel's word on every thread at one moment. `at` is seconds on a monotonic clock."""

    at: float
    waits: Mapping[int, KernelWait]

    @property
    def held(self) -> str:
        """By what the kernel keeps all of the threads from running, "" where one could run."""
        found = {wait.held for wait in self.waits.values()} or {""}
        return "" if "" in found else min(found)


@dataclass(frozen=True)
class Process:
    """Facts about the target that do not change between samples.

    `listening` holds its TCP ports. `listens` is whether it accepts connections: it has a listening socket, one that
    its event loop watches if it has a loop. `served` is whether it holds a connection that it once accepted on a
    port of which it no longer listens. Both are None where not known. `polls` are the descriptors of the epoll
    instances that watch a listening socket: whoever waits in one of them runs the server's loop.
    """

    pid: int | None = None
    command: str = ""
    python: str | None = None
    server: str | None = None
    supervisor_pid: int | None = None
    cwd: str | None = None
    status: str | None = None
    cpus: int | None = None
    listening: tuple[int, ...] = ()
    listens: bool | None = None
    served: bool | None = None
    polls: tuple[int, ...] = ()


@dataclass(frozen=True)
class Clients:
    """TCP connections to the ports on which the target listens, as the kernel counts them.

    `open` are established, `abandoned` were closed by the client and not by the server, `unread` hold bytes
    that the server has not read, `backlog` wait to be accepted. `waits` has the seconds of each that has sent something
    and was sent nothing since, for a second at least, the longest first; None where that was not asked for. `heard` is
    how many seconds ago a peer that the target has called sent it something, `answered` how many seconds ago one of its
    open clients was last sent something; None where none is known. `owing` are the peers that the target has sent
    something to and that have sent nothing since, by address, with for how many seconds, the longest first.
    """

    open: int = 0
    abandoned: int = 0
    unread: int = 0
    backlog: int = 0
    waits: tuple[float, ...] | None = None
    heard: float | None = None
    answered: float | None = None
    owing: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Evidence:
    """All that is known of one process: what a bundle holds and a diagnosis starts from.

    `readings` were taken before the first attach, when nothing had disturbed the target yet; `attached`
    holds one reading per snapshot, taken just before it (None where the kernel was not asked).
    `watch` are readings of a second without any attach, `profile` stacks and how often each was seen in a
    second of sampling; both are taken only in doubt. `clients` is None where the kernel was not asked.
    `tasks` are asyncio's, read before the first attach, `later` the same after the last sample, `apart` seconds later;
    `unread` says why they are not all, "" where they are.
    `sources` maps a file, named as in the frames, to its known lines by number. `functions` are the application's
    that could end a wait, None where they are not all known. `queued` is how many calls wait for a pool's thread,
    by its kernel id, and holds the threads of concurrent.futures alone; `pool_sizes` how many threads the pool of each
    may have, where it says so. `compiled` are the frames of compiled code that stand above a thread's first Python
    frame, by its kernel id, where a native look was taken. `accepted` is how many connections the process accepted
    between the first reading and the last sample and still has, None where that is not known. `unread_children` are the
    child processes, by pid, that stood in both readings in the same write to a pipe or socket, with their commands.
    `taken` is when the capture began, as its manifest has it (2026-11-28T04:02:03+00:00), "" where that is not known.
    """

    snapshots: tuple[Snapshot, ...]
    readings: tuple[Reading, ...] = ()
    attached: tuple[Reading | None, ...] = ()
    watch: tuple[Reading, ...] = ()
    profile: tuple[tuple[Thread, int], ...] = ()
    process: Process = Process()
    clients: Clients | None = None
    sources: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()
    later: tuple[Task, ...] = ()
    apart: float = 0.0
    unread: str = ""
    functions: tuple[Function, ...] | None = None
    queued: Mapping[int, int] = field(default_factory=dict)
    pool_sizes: Mapping[int, int] = field(default_factory=dict)
    compiled: Mapping[int, tuple[Frame, ...]] = field(default_factory=dict)
    accepted: int | None = None
    unread_children: Mapping[int, str] = field(default_factory=dict)
    taken: str = ""
