"""Read the kernel's evidence: rows that were copied from /proc/PID/task/TID, one file a reading.

    # at 1042.221 arch x86_64 hz 100
    4284<TAB>S 1 4284 ... <TAB>75<TAB>4<TAB>futex_do_wait<TAB>202 0x7f52 0x189 ...<TAB>

The columns are the thread's id, `stat` from the state on, voluntary and involuntary context switches,
`wchan`, `syscall` and, where the call is poll(), the file descriptors that it polls.
"""

from __future__ import annotations

import ipaddress
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace

from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Clients, KernelWait, Process, Reading

# Numbers from the kernel's tables: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
X86_64 = {
    0: "read",
    1: "write",
    2: "open",
    7: "poll",
    16: "ioctl",
    17: "pread64",
    18: "pwrite64",
    19: "readv",
    20: "writev",
    23: "select",
    34: "pause",
    35: "nanosleep",
    40: "sendfile",
    42: "connect",
    43: "accept",
    44: "sendto",
    45: "recvfrom",
    46: "sendmsg",
    47: "recvmsg",
    56: "clone",
    58: "vfork",
    61: "wait4",
    65: "semop",
    72: "fcntl",
    73: "flock",
    74: "fsync",
    75: "fdatasync",
    128: "rt_sigtimedwait",
    130: "rt_sigsuspend",
    202: "futex",
    219: "restart_syscall",
    220: "semtimedop",
    230: "clock_nanosleep",
    232: "epoll_wait",
    242: "mq_timedsend",
    243: "mq_timedreceive",
    247: "waitid",
    257: "openat",
    270: "pselect6",
    271: "ppoll",
    281: "epoll_pwait",
    288: "accept4",
    299: "recvmmsg",
    426: "io_uring_enter",
    435: "clone3",
    441: "epoll_pwait2",
    449: "futex_waitv",
}
AARCH64 = {
    22: "epoll_pwait",
    25: "fcntl",
    29: "ioctl",
    32: "flock",
    56: "openat",
    63: "read",
    64: "write",
    65: "readv",
    66: "writev",
    67: "pread64",
    68: "pwrite64",
    71: "sendfile",
    72: "pselect6",
    73: "ppoll",
    82: "fsync",
    83: "fdatasync",
    95: "waitid",
    98: "futex",
    101: "nanosleep",
    115: "clock_nanosleep",
    128: "restart_syscall",
    133: "rt_sigsuspend",
    137: "rt_sigtimedwait",
    182: "mq_timedsend",
    183: "mq_timedreceive",
    192: "semtimedop",
    193: "semop",
    202: "accept",
    203: "connect",
    206: "sendto",
    207: "recvfrom",
    211: "sendmsg",
    212: "recvmsg",
    220: "clone",
    242: "accept4",
    243: "recvmmsg",
    260: "wait4",
    426: "io_uring_enter",
    435: "clone3",
    441: "epoll_pwait2",
    449: "futex_waitv",
}
TABLES = {"x86_64": X86_64, "amd64": X86_64, "aarch64": AARCH64, "arm64": AARCH64}
# What a thread does that is in such a call, in words.
IN_WORDS = {
    "futex futex_waitv": "sleeps until another thread wakes it: the wait for a lock, a queue, or the end of a thread",
    "epoll_wait epoll_pwait epoll_pwait2": "waits for any event on its sockets: so an event loop rests",
    "poll ppoll select pselect6": "waits until one of these descriptors is ready, or a time-out is over",
    "read readv pread64 recvfrom recvmsg recvmmsg": "waits for the other end to send something",
    "write writev sendto sendmsg sendfile": "waits for the other end to take what it sends",
    "connect": "waits for the other end to accept a connection",
    "accept accept4": "waits for somebody to connect",
    "nanosleep clock_nanosleep": "sleeps for a set time",
    "wait4 waitid": "waits for a child process to end",
    "flock fcntl": "waits for a lock on a file",
    "open openat": "waits for a file or a named pipe to open",
    "fsync fdatasync": "waits for the disk",
    "semop semtimedop": "waits for a semaphore that processes share",
    "pause rt_sigsuspend rt_sigtimedwait": "waits for a signal",
    "restart_syscall": "goes on with a wait that has a time-out, after a signal",
    "running": "is on a CPU, or ready for one: it computes",
}
ON_FD = frozenset(
    """read write pread64 pwrite64 readv writev ioctl connect accept accept4 sendto recvfrom sendmsg
    recvmsg recvmmsg fcntl flock fsync fdatasync sendfile""".split()
)
EPOLL = ("epoll_wait", "epoll_pwait", "epoll_pwait2")
POLLS = (*EPOLL, "poll", "ppoll", "select", "pselect6", "restart_syscall", "io_uring_enter")  # how any loop waits
CHILDS = "of child"  # whose the other end of a pipe is
ALONE = "no other process"  # what maps a semaphore whose other users have all ended
FUTEX_PRIVATE = 128  # include/uapi/linux/futex.h: no other process can wake it
SLEEP_UNTIL = (1, 1)  # CLOCK_MONOTONIC, TIMER_ABSTIME: how time.sleep() calls clock_nanosleep from Python 3.11 on
# A database's file by custom, and what lies beside one.
AS_SQLITE = "open, as SQLite has its files"
SQLITE_FILES = (".db", ".db3", ".sqlite", ".sqlite3", "-wal", "-journal", "-shm")


@dataclass(frozen=True)
class Objects:
    """What numbers in syscalls stand for: descriptors' targets, sockets' peers by inode, children's commands, and
    which other processes map a semaphore that lies at an address. `pipes` are the children by the pipes they have,
    `locks` the lock and its owner by the futex of the one thread that stands before it there. Rows that were `parsed`
    with them stand in every reading in which their thread has not run, and are parsed once."""

    files: Mapping[int, str] = field(default_factory=dict)
    peers: Mapping[str, str] = field(default_factory=dict)
    children: Mapping[int, str] = field(default_factory=dict)
    shared: Mapping[int, str] = field(default_factory=dict)
    pipes: Mapping[str, int] = field(default_factory=dict)
    locks: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    parsed: dict[tuple[str, str, float], tuple[int, KernelWait]] = field(default_factory=dict, compare=False)


def parse_reading(text: str, objects: Objects | None = None) -> Reading:
    """One reading from its file's text. Rows that make no sense are left out, for threads end while one reads."""
    at, arch, hz = 0.0, "x86_64", 100.0
    objects = Objects() if objects is None else objects
    waits: dict[int, KernelWait] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            words = line[1:].split()
            facts = dict(zip(words[::2], words[1::2]))
            at, arch, hz = positive_or(facts.get("at"), 0.0), facts.get("arch", arch), positive_or(facts.get("hz"), hz)
            continue
        row = objects.parsed.get((line, arch, hz))
        if row is None:
            try:
                row = objects.parsed[line, arch, hz] = parse_row(line, TABLES.get(arch, {}), hz, objects)
            except (ValueError, IndexError, OverflowError):
                continue
        waits[row[0]] = row[1]
    return Reading(at, waits)


def positive_or(text: str | None, otherwise: float) -> float:
    try:
        value = float(text or "")
    except ValueError:
        return otherwise
    return value if 0 < value < math.inf else otherwise


def parse_row(line: str, table: Mapping[int, str], hz: float, objects: Objects) -> tuple[int, KernelWait]:
    tid, stat, voluntary, involuntary, wchan, call, polled = (line.split("\t") + [""] * 7)[:7]
    fields = stat.split()
    switches = int(voluntary) + int(involuntary) if voluntary and involuntary else None
    cpu = (int(fields[11]) + int(fields[12])) / hz if len(fields) > 12 else None
    name, args = syscall(call, table)
    if name is None and fields and fields[0] == "R":
        name = "running"
    fds = [int(fd) for fd in polled.split(",") if fd]
    detail = detail_of(name, args, fds, objects)
    lock, owner = objects.locks.get(args[0], (0, 0)) if name == "futex" and args else (0, 0)
    return int(tid), KernelWait(name, args, detail, fields[0] if fields else "", wchan, switches, cpu, lock, owner)


def syscall(text: str, table: Mapping[int, str]) -> tuple[str | None, tuple[int, ...]]:
    """The call and its six arguments. "-1 SP PC" means blocked outside of a call, such as by a page fault."""
    words = text.split()
    if not words or words[0] == "-1":
        return None, ()
    if words[0] == "running":
        return "running", ()
    number = int(words[0])
    return table.get(number, f"syscall {number}"), tuple(int(word, 16) for word in words[1:7])


def detail_of(name: str | None, args: tuple[int, ...], polled: list[int], objects: Objects) -> str | None:
    if name in ON_FD and args:
        return describe(args[0], objects)
    if name in ("poll", "ppoll") and polled:
        return ", ".join(describe(fd, objects) for fd in polled)
    if name in ("wait4", "waitid") and args:
        pid = signed(args[0] if name == "wait4" else args[1])
        if pid in objects.children:
            return f"child {pid}: {objects.children[pid]}"
        return f"child {pid}" if pid > 0 else "any child"
    if name == "futex" and args and args[0] in objects.shared:
        return f"shared with {objects.shared[args[0]]}"
    if sleeps_in_c(name, args):
        opened = sorted(
            target for target in objects.files.values() if target.startswith("/") and target.endswith(SQLITE_FILES)
        )
        return f"with {opened[0]} {AS_SQLITE}" if opened else None
    return None


def waits_as_sqlite(wait: KernelWait | None) -> bool:
    """Whether it sleeps for a moment, as SQLite does again and again while another connection has the file's lock."""
    return wait is not None and bool(wait.detail) and str(wait.detail).endswith(AS_SQLITE)


def in_words(call: str | None) -> str:
    """What a thread in this system call does; "" for a call that says nothing of it."""
    return next((words for calls, words in IN_WORDS.items() if call in calls.split()), "")


def describe(fd: int, objects: Objects) -> str:
    """A descriptor in words: "fd 17 -> 10.2.3.4:5432", "fd 9 -> pipe", "fd 9 -> pipe, of child 671: ffmpeg"."""
    target = objects.files.get(fd)
    if target is None:
        return f"fd {fd}"
    if target.startswith("socket:"):
        target = objects.peers.get(target[8:-1], "socket")
    if not target.startswith("pipe:["):
        return f"fd {fd} -> {target}"
    child = objects.pipes.get(target[6:-1])
    # A forked child has the pipes too of which both ends are the parent's: those are between its own threads.
    if child is None or sum(other == target for other in objects.files.values()) > 1:
        return f"fd {fd} -> pipe"
    return f"fd {fd} -> pipe, {CHILDS} {child}: {objects.children.get(child, '')}"


def forever(args: tuple[int, ...]) -> bool:
    """futex(address, operation, value, timeout, ...): of this process alone, and without a timeout."""
    return endless(args) and bool(args[1] & FUTEX_PRIVATE)


def sleeps_in_c(name: str | None, args: tuple[int, ...]) -> bool:
    """Whether it is a C library that sleeps, as with usleep(): Python itself has never slept in this way."""
    return name == "nanosleep" or (name == "clock_nanosleep" and bool(args) and args[:2] != SLEEP_UNTIL)


def endless(args: tuple[int, ...]) -> bool:
    """A futex without a timeout, be it of this process alone or shared with others."""
    return len(args) > 3 and args[3] == 0


def ends_by_itself(wait: KernelWait) -> bool:
    """Whether the call has a timeout: a sleep, a timed lock, a poll that waits for so long and no longer."""
    args = wait.args
    if wait.syscall in ("futex", "ppoll", "pselect6", "select"):
        place = {"futex": 3, "ppoll": 2}.get(wait.syscall, 4)
        return len(args) > place and args[place] != 0
    if wait.syscall in ("poll", "epoll_wait", "epoll_pwait"):
        place = 2 if wait.syscall == "poll" else 3
        return len(args) > place and signed(args[place]) > 0
    return wait.syscall in ("nanosleep", "clock_nanosleep")


def signed(value: int) -> int:
    """A pid as the kernel prints it, a C int in hexadecimal: 0xffffffff is -1."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


# -- connections ---------------------------------------------------------------------------------------
# The kernel's tables of TCP connections, /proc/PID/net/{tcp,tcp6}: who is connected, who waits, what was accepted.
#
#     0: 0100007F:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000  1000 0 41325 1 ...
#
# A bundle may come from anybody, or have been cut short: rows of another shape are left out.

LONG_FOR_AN_ANSWER = 1000  # milliseconds: as long as the two readings of the tasks are apart
ESTABLISHED, CLOSE_WAIT, LISTEN = "01", "08", "0A"  # include/net/tcp_states.h
ROW = re.compile(
    r"\s*\d+: (?P<here>(?:[0-9A-F]{8}|[0-9A-F]{32}):[0-9A-F]{4}) (?P<there>(?:[0-9A-F]{8}|[0-9A-F]{32}):[0-9A-F]{4})"
    r" (?P<state>[0-9A-F]{2}) [0-9A-F]{1,16}:(?P<unread>[0-9A-F]{1,16})(?:\s+\S+){4}\s+(?P<inode>\d{1,20})(?:\s|$)"
)


@dataclass(frozen=True)
class Connection:
    """One row. `here` and `there` are addresses as the kernel writes them, `unread` bytes, or callers of a listener."""

    here: str
    there: str
    state: str
    unread: int
    inode: str

    @property
    def port(self) -> int:
        return int(self.here[-4:], 16)


def connections(text: str) -> Iterator[Connection]:
    """The rows of one or several tables."""
    for found in filter(None, map(ROW.match, text.splitlines())):
        yield Connection(found["here"], found["there"], found["state"], int(found["unread"], 16), found["inode"])


def peers_by_inode(text: str) -> dict[str, str]:
    """Peers by inode: {"41325": "10.2.3.4:5432"}."""
    return {one.inode: readable_address(one.there) for one in connections(text) if one.state != LISTEN}


def count_clients(text: str, listening: tuple[int, ...]) -> Clients:
    """Count the connections to `listening` ports. In a listening row what is unread is the backlog."""
    count = {"open": 0, "abandoned": 0, "unread": 0, "backlog": 0}
    for one in connections(text):
        if one.port not in listening:
            continue
        if one.state == LISTEN:
            count["backlog"] += one.unread
        elif one.state in (ESTABLISHED, CLOSE_WAIT):
            count["open" if one.state == ESTABLISHED else "abandoned"] += 1
            count["unread"] += one.unread > (one.state == CLOSE_WAIT)  # the end of the stream counts as a byte
    return Clients(count["open"], count["abandoned"], count["unread"], count["backlog"])


def accepted_between(before: str, after: str, listening: tuple[int, ...]) -> int:
    """How many connections to `listening` ports were accepted after the first table, and are still in the second.

    One that was not accepted yet has no inode, so a client that only connects counts for nothing.
    """
    first, second = (
        {one.inode for one in connections(text) if one.port in listening and one.state != LISTEN} - {"0"}
        for text in (before, after)
    )
    return len(second - first)


def with_answers(counted: Clients, text: str) -> Clients:
    """With those clients that sent something, and nothing was sent to them since, for as long as a look lasts.

    `text` has a row for each connection: its port, the milliseconds since the client sent something, and since it was
    sent something, -1 for never. A row that begins with "peer" is of a connection that the target has opened itself; it
    has the peer's address last.
    """
    rows = [row for line in text.splitlines() if line[:1] != "#" and (row := line.split())]
    times = [[number(word) for word in row] for row in rows if len(row) == 3 and row[0] != "peer"]
    waits = [row[1] for row in times if row[1] >= LONG_FOR_AN_ANSWER and not -1 < row[2] <= row[1]]
    peers = [(number(row[1]), number(row[2]), "".join(row[3:])) for row in rows if row[0] == "peer" and len(row) > 2]
    heard = [received for received, _, _ in peers if received >= 0]
    owing = [
        (sent, peer)
        for received, sent, peer in peers
        if peer and sent >= LONG_FOR_AN_ANSWER and not -1 < received <= sent
    ]
    sent = [row[2] for row in times if row[2] >= 0]
    return replace(
        counted,
        waits=tuple(milliseconds / 1000 for milliseconds in sorted(waits, reverse=True)),
        heard=min(heard) / 1000 if heard else None,
        owing=tuple((peer, milliseconds / 1000) for milliseconds, peer in sorted(owing, reverse=True)),
        answered=min(sent) / 1000 if sent else None,
    )


def readable_address(text: str) -> str:
    """ "0100007F:1538" as "127.0.0.1:5432": each group of four bytes is little-endian."""
    host, port = text.split(":")
    raw = b"".join(struct.pack("<I", int(host[i : i + 8], 16)) for i in range(0, len(host), 8))
    ip = ipaddress.ip_address(raw)
    mapped = getattr(ip, "ipv4_mapped", None)
    return f"{mapped or ip}:{int(port, 16)}" if ip.version == 4 or mapped else f"[{ip}]:{int(port, 16)}"


# -- sockets.txt --------------------------------------------------------------------------------------


def with_sockets(process: Process, text: str, files: Mapping[int, str], net: str) -> Process:
    """`process` with where it listens, and whether it holds a connection that it accepted.

    A live capture finds that out with psutil; capture.sh leaves it to be counted, one fact a line:
    `range 32768 60999`, `listened 1F40`, `unix 41325`, `epoll 5 7`.
    """
    said = [line.split() for line in text.splitlines() if line.strip()]
    unix = {words[1] for words in said if words[0] == "unix" and len(words) == 2}
    listened = {number(words[1], 16) for words in said if words[0] == "listened" and len(words) == 2}
    handed_out = next(
        ((number(words[1]), number(words[2])) for words in said if words[0] == "range" and len(words) == 3),
        (0, 0),
    )
    ours = {target[8:-1]: fd for fd, target in files.items() if target.startswith("socket:[")}
    own = [one for one in connections(net) if one.inode in ours]
    listeners = {ours[one.inode] for one in own if one.state == LISTEN} | {ours[inode] for inode in unix & ours.keys()}
    watched = [(number(words[1]), number(words[2])) for words in said if words[0] == "epoll" and len(words) == 3]
    seen = {fd for _, fd in watched} if watched else listeners
    ports = {one.port for one in own if one.state == LISTEN}
    return replace(
        process,
        listening=tuple(sorted(ports)),
        listens=bool(listeners & seen),
        served=any(were_accepted(own, ports, listened, handed_out)),
        polls=tuple(sorted({epoll for epoll, fd in watched if fd in listeners})),
    )


def were_accepted(
    own: Iterable[Connection], ports: set[int], listened: set[int], handed_out: tuple[int, int]
) -> Iterator[bool]:
    """Whether each open connection was accepted on a port of which the process no longer listens.

    No table says who opened it: its own port is none that the kernel hands out, or the other end is on this machine
    and nobody listens there.
    """
    low, high = handed_out
    for one in own:
        if one.state in (ESTABLISHED, CLOSE_WAIT) and one.port not in ports:
            same, there = one.here[:-5] == one.there[:-5], int(one.there[-4:], 16)
            yield not low <= one.port <= high or (same and there not in listened)


def number(text: str, base: int = 10) -> int:
    """-1 for what is none."""
    try:
        return int(text, base)
    except ValueError:
        return -1
