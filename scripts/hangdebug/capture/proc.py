"""Copy the kernel's evidence from /proc as it stands. Reading it neither pauses nor disturbs the target.

What the rows mean is kernel.py's business, so that a bundle read elsewhere says the same as a live one.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hangdebug.capture import redact
from hangdebug.capture.interpreter.memory import Memory, Unreadable, open_memory
from hangdebug.evidence import kernel
from hangdebug.evidence import light as re
from hangdebug.evidence.kernel import ALONE, EPOLL, FUTEX_PRIVATE, TABLES, connections, forever, syscall

MOST_THREADS = 20_000
MOST_POLLED = 16
STARTED = 19  # of the fields of /proc/PID/stat behind its name
MOST_SHARERS = 4
MOST_WRITERS = 100  # threads of a child
CHILD_COMMAND = 3  # words of a child's command line that are kept
WRITES = ("write", "writev", "sendto", "sendmsg")
CALL = 5  # the column of a row that holds the system call
PROCESSOR = 36  # of the numbers in `stat` after the name: the CPU that it ran on last
SLEEPS = ("S", "D")
PIECE = 1 << 16  # bytes of a file of /proc that are asked for at once
SETTLED = 0.02  # seconds after which a thread that still waits for its disk waits for more than that
FILE_SERVER = "request_wait_answer"  # of FUSE: sshfs, s3fs and kin
LAST_RUN = re.compile(r"^se\.exec_start\s*:\s*([\d.]+)", re.M)

Rows = dict[int, tuple[str, str]]  # by thread: what tells whether it has run, and its row


def has_proc(pid: int | str = "self") -> bool:
    return Path(f"/proc/{pid}/task").is_dir()


def is_hidden(pid: int) -> bool:
    """Whether /proc is here and has no such process: one that runs all the same is hidden from this user."""
    return has_proc() and not has_proc(pid)


def copy_threads(pid: int, known: Rows | None = None) -> str:
    """The rows of all threads now. A thread that ends meanwhile is left out; raises ProcessLookupError.

    `known` holds what was read of each before, and then what is read now: what has not run since is not read again.
    """
    known = {} if known is None else known
    arch = platform.machine()
    rows = [f"# at {time.monotonic():.4f} arch {arch} hz {os.sysconf('SC_CLK_TCK')}"]
    tids = sorted(threads_of(pid))[:MOST_THREADS]
    if not tids:
        raise ProcessLookupError(pid)
    before = dict(known)
    known.clear()
    for tid in tids:
        folder = f"/proc/{pid}/task/{tid}"
        ran = text_of(f"{folder}/schedstat") or ""  # nanoseconds on a CPU and in its queue, and how often it ran
        last = before.get(tid)
        found = last[1] if ran and last and last[0] == ran else copy_thread(folder, tid, pid, arch)
        if found:
            rows.append(found)
            known[tid] = (ran, found)
    return "\n".join(rows) + "\n"


def has_not_run(before: Rows, now: Rows, tid: int) -> bool:
    return tid in before and tid in now and bool(before[tid][0]) and before[tid][0] == now[tid][0]


def goes_on_waiting(before: Rows, now: Rows, tid: int, idle: bool, polls: tuple[int, ...]) -> bool:
    """Whether a thread that has run was idle and waits in the same call again.

    `polls` are the loop's own epoll instances: who waits for events of one is idle, whatever its stack.
    """
    if tid not in before or tid not in now:
        return False
    name, args = call_of(now[tid])
    polling = name in EPOLL and args[:1] != () and args[0] in polls
    return (idle or polling) and in_one_call(before, now, tid)


def in_one_call(before: Rows, now: Rows, tid: int) -> bool:
    """Whether a thread is in the same system call on the same object; one that a look interrupted is called anew."""
    if tid not in before or tid not in now:
        return False
    (name, args), (again, others) = call_of(before[tid]), call_of(now[tid])
    if name is None or "running" in (name, again):
        return False
    return again == "restart_syscall" or (name, args[:1]) == (again, others[:1])


def stat_of(row: str) -> list[str]:
    """The numbers of `stat` after the name in a thread's row; [] where it has none."""
    return row.partition("\t")[2].partition("\t")[0].split()


def call_of(row: tuple[str, str]) -> tuple[str | None, tuple[int, ...]]:
    return syscall(row[1].split("\t")[CALL], TABLES.get(platform.machine(), {}))


def asleep(pid: int, known: Rows) -> dict[int, float]:
    """For how many seconds each thread in `known` has not run; {} where the kernel does not say.

    What it says is the time of its scheduler, which each CPU counts for itself: so it is asked there what time it is.
    """
    found: dict[int, float] = {}
    clocks: dict[int, float] = {}
    try:
        for tid, (_, kept) in known.items():
            last, row = LAST_RUN.search(text_of(f"/proc/{pid}/task/{tid}/sched") or ""), stat_of(kept)
            if last is None or len(row) <= PROCESSOR:
                return {}
            cpu = int(row[PROCESSOR])
            if cpu not in clocks:
                clocks[cpu] = clock_of(cpu)
            found[tid] = clocks[cpu] - float(last[1]) / 1000 if row[0] in SLEEPS else 0.0
    except (OSError, ValueError, AttributeError):
        return {}
    return found


def clock_of(cpu: int) -> float:
    """The scheduler's time of one CPU, in seconds. Raises OSError where this thread may not run there."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        found = LAST_RUN.search(text_of("/proc/thread-self/sched") or "")
    finally:
        os.sched_setaffinity(0, allowed)
    if found is None:
        raise OSError("the kernel does not say when a thread ran")
    return float(found[1]) / 1000


def copy_thread(folder: str, tid: int, pid: int, arch: str) -> str | None:
    stat = text_of(f"{folder}/stat")
    if stat is None:
        return None
    counts = context_switches(text_of(f"{folder}/status") or "")
    call = text_of(f"{folder}/syscall") or ""
    polled = ",".join(map(str, polled_fds(pid, call, arch)))
    wchan = text_of(f"{folder}/wchan") or ""
    return "\t".join([str(tid), stat.rpartition(") ")[2], *counts, wchan, call, polled])


def is_stuck_alone(pid: int) -> bool:
    """Whether its only thread waits for a lock of its own process, without a timeout: nobody can release it."""
    reading_ = text_of(f"/proc/{pid}/task/{pid}/syscall") or ""
    name, args = syscall(reading_, TABLES.get(platform.machine(), {}))
    return len(glob.glob(f"/proc/{pid}/task/*")) == 1 and name == "futex" and forever(args)


def identity(pid: int) -> tuple[str, str] | None:
    """When it started, and its program: they tell it from a later one of its number, and from what an exec makes of it.

    The program's file is not touched: it may lie on a mount that hangs. None where they are hidden.
    """
    stat = (text_of(f"/proc/{pid}/stat") or "").rpartition(") ")[2].split()
    try:
        return stat[STARTED], os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except (OSError, IndexError):
        return None


def chroot_of(pid: int) -> str:
    """The root of a process that has another one than we, among the same mounts; "" for any other."""
    try:
        root, same = os.readlink(f"/proc/{pid}/root"), os.readlink("/proc/self/root")
        mounts = os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    except OSError:
        return ""
    return root if mounts and root != same else ""


def tracer_of(pid: int) -> tuple[int, str] | None:
    """The process that traces `pid`, a debugger or strace, and its command; None where nobody does."""
    rows = (
        line.split() for line in (text_of(f"/proc/{pid}/status") or "").splitlines() if line.startswith("TracerPid")
    )
    tracer = next((int(row[1]) for row in rows if row[1:] and row[1].isdigit()), 0)
    return (tracer, command_line(tracer) or "?") if tracer else None


def cannot_be_paused(pid: int) -> bool:
    """Whether a thread stays where no signal reaches it: to attach takes as long, and halts the others meanwhile."""
    first = out_of_reach(pid)
    if not first:
        return False
    time.sleep(SETTLED)
    return bool(first & out_of_reach(pid))


def out_of_reach(pid: int) -> set[tuple[str, str]]:
    """The threads in state D, or in a wait that a signal turns into that, each with how long and how often it ran."""
    return {
        (folder, text_of(f"{folder}/schedstat") or "")
        for folder in glob.glob(f"/proc/{pid}/task/*")
        if (text_of(f"{folder}/stat") or "").rpartition(") ")[2].startswith("D")
        or text_of(f"{folder}/wchan") == FILE_SERVER
    }


def context_switches(status: str) -> tuple[str, str]:
    counts = dict(line.split(":", 1) for line in status.splitlines() if "ctxt_switches" in line)
    return counts.get("voluntary_ctxt_switches", "").strip(), counts.get("nonvoluntary_ctxt_switches", "").strip()


def polled_fds(pid: int, call: str, arch: str) -> list[int]:
    """The descriptors of a poll(): a socket with a timeout is polled before it is read.

    The kernel prints only the address of the array; its entries are read from the target's memory.
    """
    name, args = syscall(call, TABLES.get(arch, {}))
    if name not in ("poll", "ppoll") or not 0 < args[1] <= MOST_POLLED:
        return []
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(args[0])
            raw = memory.read(8 * args[1])
    except (OSError, ValueError, OverflowError):
        return []
    return [fd for fd, _, _ in struct.iter_unpack("<ihh", raw[: len(raw) // 8 * 8]) if fd >= 0]


def copy_objects(pid: int, listening: tuple[int, ...]) -> dict[str, str]:
    """What descriptors, sockets and children are: the texts of fds.tsv, net.txt and children.tsv."""
    files = copy_descriptors(pid)
    return {"fds.tsv": files, "net.txt": copy_sockets(pid, files, listening), "children.tsv": copy_children(pid)}


def copy_descriptors(pid: int) -> str:
    rows = []
    try:
        fds = sorted(map(int, os.listdir(f"/proc/{pid}/fd")))
    except OSError:
        return ""
    for fd in fds:
        try:
            rows.append(f"{fd}\t{os.readlink(f'/proc/{pid}/fd/{fd}')}")
        except OSError:
            continue
    return "\n".join(rows) + "\n"


def copy_sockets(pid: int, files: str, listening: tuple[int, ...]) -> str:
    """Rows of the TCP tables of the target's network namespace: its own sockets, and those on its ports.

    A connection that waits to be accepted has no descriptor yet, so it is known by its port alone.
    """
    own = {line.split("socket:[")[1][:-1] for line in files.splitlines() if "socket:[" in line}
    rows = []
    for name in ("tcp", "tcp6"):
        for line in (text_of(f"/proc/{pid}/net/{name}") or "").splitlines():
            rows += [f"{line}\n"] * any(one.inode in own or one.port in listening for one in connections(line))
    return "".join(rows)


def copy_children(pid: int) -> str:
    """The text of children.tsv: of each child its pid, its command line, the pipes that it has, and what it writes to.

    The pid is the one in the target's own namespace, which is what its system calls name. The last column is the pipe
    or socket to which a thread of its stands in a write, "" where none does.
    """
    rows = []
    level = namespace_depth(pid)
    for tid in threads_of(pid):
        for child in map(int, (text_of(f"/proc/{pid}/task/{tid}/children") or "").split()):  # that this thread forked
            own = namespace_ids(f"/proc/{child}/status")[level - 1 :]
            pipes = {
                line.split("pipe:[")[1][:-1] for line in copy_descriptors(child).splitlines() if "\tpipe:[" in line
            }
            rows.append(
                f"{own[0] if own else child}\t{command_line(child)}\t{' '.join(sorted(pipes))}\t{written_to(child)}"
            )
    return "\n".join(rows) + "\n"


def written_to(pid: int) -> str:
    """The pipe or socket to which a thread of a process stands in a write: "pipe:[1234]", "" for none."""
    table = TABLES.get(platform.machine(), {})
    for path in sorted(glob.glob(f"/proc/{pid}/task/*/syscall"))[:MOST_WRITERS]:
        name, args = syscall(text_of(path) or "", table)
        try:
            target = os.readlink(f"/proc/{pid}/fd/{args[0]}") if name in WRITES and args else ""
        except OSError:
            continue
        if target.startswith(("pipe:", "socket:")):
            return target
    return ""


def copy_sharers(pid: int, known: Rows) -> str:
    """The text of shared.tsv: of each semaphore that `pid` waits for and shares with others, which processes these are.

    `known` are the kernel's rows of its threads.

    Such a one lies in a file that is mapped, often one without a name any more. The kernel does not release it for
    an owner that was killed, so a semaphore that nobody else maps was left behind.
    """
    wanted = {args[0] for name, args in map(call_of, known.values()) if name == "futex" and not args[1] & FUTEX_PRIVATE}
    found = {}
    for at in wanted:
        file = next((file for start, end, file in mapped_files(pid) if start <= at < end), None)
        if file is not None:
            found[at] = file
    others = (
        {other: {file for _, _, file in mapped_files(other)} for other in all_pids() if other != pid} if found else {}
    )
    rows = []
    for at, file in found.items():
        names = [f"{other}: {command_line(other)}" for other, files in others.items() if file in files]
        rows.append(f"{at}\t{', '.join(names[:MOST_SHARERS]) or ALONE}")
    return "\n".join(rows) + "\n" if rows else ""


# How a thread stands before a lock of Python's from 3.14 on, and in free-threaded builds (pycore_parking_lot.h): in a
# list, by an entry on its own stack of which the futex is a part. Offsets are from there, and then from the lock, which
# is the last part of its object but for its owner.
LOCK_AT, NEXT_AT, BACK = -8, 32, 8
TYPE_AT, OWNER_AT, TYPE_NAME = -8, 8, 24
HAS_OWNER = b"_thread.RLock\0"


def copy_locks(pid: int, known: Rows) -> str:
    """The text of locks.tsv: of each thread in `known` that stands before a lock, at a futex of its own, which it is.

    The columns are the futex's address, the lock's, and our id of the thread that has it, which an RLock alone tells.
    """
    ids, rows = threads_by_inner_id(pid), []
    try:
        with open_memory(pid) as memory:
            for at in sorted({args[0] for name, args in map(call_of, known.values()) if name == "futex" and args}):
                with suppress(Unreadable):
                    lock, entry = memory.word(at + LOCK_AT), at + NEXT_AT
                    if memory.word(memory.word(entry) + BACK) != entry:
                        continue  # it stands in no list: the futex is no such entry's
                    rows.append(f"{at}\t{lock}\t{our_id(pid, ids, None, owner_of(memory, lock)) or ''}\n")
    except Unreadable:
        return ""
    return "".join(rows)


def owner_of(memory: Memory, lock: int) -> int | None:
    """The address of the thread that has a lock, None where the lock does not say."""
    try:
        kind = memory.read(memory.word(memory.word(lock + TYPE_AT) + TYPE_NAME), len(HAS_OWNER))
        return memory.word(lock + OWNER_AT) if kind == HAS_OWNER else None
    except Unreadable:
        return None


def mapped_files(pid: int) -> list[tuple[int, int, str]]:
    """The parts of its memory that lie in files: start, end, and the file's device and inode."""
    rows = (line.split(None, 5) for line in (text_of(f"/proc/{pid}/maps") or "").splitlines())
    found = []
    for range_, _, _, device, inode, *_ in (row for row in rows if len(row) > 4 and row[4] != "0"):
        start, _, end = range_.partition("-")
        found.append((int(start, 16), int(end, 16), f"{device} {inode}"))
    return found


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def command_line(pid: int) -> str:
    words = (text_of(f"/proc/{pid}/cmdline") or "").split("\0")
    return redact.clean_command(words, CHILD_COMMAND).strip()


def text_of(path: str) -> str | None:
    """A file's text, or None where it is gone or not for this user."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a file object costs twice as much, and there are thousands
        try:
            parts = []
            while part := os.read(handle, PIECE):
                parts.append(part)
        finally:
            os.close(handle)
    except OSError:
        return None
    return b"".join(parts).decode("utf-8", "replace").rstrip("\n")


# -- processes in another pid namespace ----------------------------------------------------------------

# Where `struct pthread` holds the thread's id, behind the address that pthread_self() gives: so since glibc 2.4.
KEPT_AT = {"x86_64": 720, "amd64": 720}
HEAD = re.compile(r"\bthread \((0x[0-9A-Fa-f]+|\d+)\)")


def namespace_depth(pid: int) -> int:
    """In how many pid namespaces the process has a number; 1 means that it is in ours."""
    return len(namespace_ids(f"/proc/{pid}/status"))


def namespace_ids(status: str) -> list[int]:
    """The ids of a process or thread, ours first, that of its own namespace last. [] where it is gone."""
    try:
        with open(status, encoding="utf-8", errors="replace") as lines:
            return next(([int(word) for word in line.split()[1:]] for line in lines if line.startswith("NSpid:")), [])
    except OSError:
        return []


def threads_of(pid: int) -> list[int]:
    """Our ids of its threads; [] where it is gone."""
    try:
        return list(map(int, os.listdir(f"/proc/{pid}/task")))
    except OSError:
        return []


def threads_by_inner_id(pid: int) -> dict[int, int]:
    """Our id of each of its threads by the one of its own namespace, which is the same where that is ours."""
    tids = threads_of(pid)
    if namespace_depth(pid) == 1:
        return dict(zip(tids, tids))
    found = (namespace_ids(f"/proc/{pid}/task/{tid}/status") for tid in tids)
    return {one[-1]: one[0] for one in found if one}


def dump_with_our_ids(pid: int, dump: str) -> tuple[str, int]:
    """py-spy's JSON with our ids, and how many threads had the number of another process's thread."""
    rows = json.loads(dump)
    foreign, known, wrong = namespace_depth(pid) > 1, threads_by_inner_id(pid), 0
    given = [row.get("os_thread_id") for row in rows]
    if not known or (not foreign and all(one in known for one in given)):
        return dump, 0
    free = set(known.values()) - set(given)
    for row, inner in zip(rows, given):
        stray = bool(inner) and inner not in known
        if stray and not foreign:
            own = our_id(pid, known, None, row.get("thread_id"))
            own = next(iter(free), None) if own is None and len(known) == 1 else own
            if (own is None or inner > pid) and not os.path.exists(f"/proc/{inner}"):
                continue  # it ended since it was seen; a number from before a fork is lower than the process's own
            row.update(os_thread_id=own if own in free else None, active=None)
            free.discard(own)
            wrong += 1
        elif foreign or not inner:
            row.update(os_thread_id=our_id(pid, known, inner, row.get("thread_id")), active=None)
    return json.dumps(rows, indent=1), wrong


def stacks_with_our_ids(pid: int, profile: str) -> str:
    """py-spy's collapsed stacks with our ids."""
    foreign = namespace_depth(pid) > 1
    known, seen = threads_by_inner_id(pid), set(HEAD.findall(profile))
    made = {}
    for head in seen:
        number = int(head, 0)
        if foreign or head.startswith("0x"):
            made[head] = our_id(pid, known, None if head.startswith("0x") else number, number)
        elif number not in known and os.path.exists(f"/proc/{number}") and str(pid) not in seen:
            made[head] = pid  # the number is its parent's, from before a fork: that of the thread that forked
    return HEAD.sub(lambda found: f"thread ({made[found[1]]})" if made.get(found[1]) else found[0], profile)


def our_id(pid: int, known: Mapping[int, int], inner: int | None, address: int | None) -> int | None:
    """Our id of a thread, from its id in its own namespace or from its address; None where neither is known."""
    if inner is None and address and platform.machine() in KEPT_AT:
        try:
            with open_memory(pid) as memory:
                inner = memory.small(address + KEPT_AT[platform.machine()])
        except Unreadable:
            return None
    return known.get(inner) if inner is not None else None


# -- connections ---------------------------------------------------------------------------------------
# Whether a process accepts connections, whether it holds one that it accepted, and which of its clients got no answer.
#
# `sockets` are psutil's rows of all its sockets, asked for once; None where this user may not see them.

try:
    import psutil as psutil
except ImportError:  # diagnosing a dump or a bundle needs none of this
    psutil = None

WATCHED = re.compile(r"^tfd:\s*(\d+)", re.M)
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def accepts_connections(pid: int, sockets: Sequence[Any] | None) -> bool | None:
    """Whether it has a listening socket; one that its event loop watches, where it has one and Linux tells.

    None where this user may not see them. An application may listen beside its server, so a listening
    socket alone does not say that the server still takes requests.
    """
    if sockets is None:
        return None
    watched = watched_by_epoll(pid)
    return any(watched is None or any(fd in one for one in watched.values()) for fd in listening_descriptors(sockets))


def epolls_of_listeners(pid: int, sockets: Sequence[Any] | None) -> tuple[int, ...]:
    """Its epoll instances that watch a listening socket, () where they are not known."""
    ours = listening_descriptors(sockets or ())
    return tuple(sorted(epoll for epoll, watched in (watched_by_epoll(pid) or {}).items() if watched & ours))


def listening_descriptors(sockets: Sequence[Any]) -> set[int]:
    """The descriptors of its listening sockets. A named UNIX socket of its own may listen: psutil does not tell."""
    return {
        one.fd
        for one in sockets
        if one.status == psutil.CONN_LISTEN
        or (one.family == getattr(socket, "AF_UNIX", None) and isinstance(one.laddr, str) and one.laddr)
    }


def watched_by_epoll(pid: int) -> dict[int, set[int]] | None:
    """The descriptors that each of its epoll instances watches; None where it has none, or they cannot be read."""
    found: dict[int, set[int]] = {}
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(f"/proc/{pid}/fd/{fd}") == "anon_inode:[eventpoll]":
                text = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
                found[int(fd)] = {int(number) for number in WATCHED.findall(text)}
    except OSError:
        return None
    return found or None


def holds_accepted_connection(pid: int, sockets: Sequence[Any] | None) -> bool | None:
    """Whether it holds an accepted connection on a port of which it no longer listens. None where that is not known.

    No table says who opened a connection. It was accepted if its own port is none that the kernel hands out, or
    if the other end is on this machine and nobody listens there.
    """
    if sockets is None:
        return None
    try:
        low, high = map(int, EPHEMERAL.read_text().split())
        listened = listening_ports(pid)
    except (OSError, ValueError):
        return None
    own = {one.laddr.port for one in sockets if one.status == psutil.CONN_LISTEN}
    alive = [one for one in sockets if one.status in (psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT) and one.raddr]
    return any(
        one.laddr.port not in own
        and (not low <= one.laddr.port <= high or (one.laddr.ip == one.raddr.ip and one.raddr.port not in listened))
        for one in alive
    )


def listening_ports(pid: int) -> set[int]:
    """The TCP ports of which anybody listens in the network namespace of a process."""
    ports: set[int] = set()
    for name in ("tcp", "tcp6"):
        table = Path(f"/proc/{pid}/net/{name}")
        text = table.read_text() if table.exists() else ""
        ports |= {one.port for one in kernel.connections(text) if one.state == kernel.LISTEN}
    return ports


# -- when each connection was last used: the kernel's socket diagnosis, which needs no right ------------

# include/uapi/linux/{netlink,sock_diag,inet_diag,tcp}.h: a request for all open TCP sockets, with their `tcp_info`.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, DUMP, DONE, ERROR = 4, 20, 0x301, 3, 2
ESTABLISHED = 1 << 1  # the only state that is asked for
INFO, PORT, FAR_PORT, FAR_HOST, INODE, ATTRIBUTES = 2, 4, 6, 24, 68, 72
ONLY_OPENED = 1  # what a connection that was opened counts as acknowledged before anything was sent
SENT, RECEIVED, BYTES = 44, 52, 120  # in tcp_info: milliseconds since, then bytes acknowledged and received
DIAG_HEAD, ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")


def copy_answers(pid: int, listening: tuple[int, ...]) -> str:
    """A row for each client's connection that `pid` has accepted and that has sent something.

    The columns are the port, the milliseconds since the client sent something, and since it was sent something, -1 for
    never. The connections that `pid` has opened itself have "peer" for a port, and a last column, the peer's address;
    they count too if only `pid` has sent something. "" where the kernel does not say.
    """
    rows = rows_in_use(pid)
    if rows is None:
        return ""
    own = {line.split("socket:[")[1][:-1] for line in copy_descriptors(pid).splitlines() if "socket:[" in line}
    found = [(port, f"{received}\t{sent}", peer) for port, inode, sent, received, peer in rows if str(inode) in own]
    clients = [f"{port}\t{times}\n" for port, times, _ in found if port in listening and not times.startswith("-1")]
    peers = [f"peer\t{times}\t{peer}\n" for port, times, peer in found if port not in listening]
    return "".join(["# port received sent\n", *clients, *peers])


def not_accepted(pid: int, listening: tuple[int, ...]) -> list[float]:
    """For how many seconds each request to these ports waits whose connection nobody has accepted: it has no inode."""
    rows = rows_in_use(pid) or []
    return [ago / 1000 for port, inode, _, ago, _ in rows if port in listening and not inode and ago >= 0]


def rows_in_use(pid: int) -> list[tuple[int, int, int, int, str]] | None:
    """The rows of connections_in_use, None where `pid` is in another network or the kernel does not say."""
    try:
        if os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net"):
            return None
        return [row for family in (socket.AF_INET, socket.AF_INET6) for row in connections_in_use(family)]
    except (OSError, AttributeError, struct.error):
        return None


def connections_in_use(family: int) -> Iterator[tuple[int, int, int, int, str]]:
    """Of each TCP connection on which something was received or sent: its own port, inode, milliseconds since as in
    copy_answers, and the peer's address."""
    wanted = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 1 << (INFO - 1), 0, ESTABLISHED)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as asked:
        asked.settimeout(1.0)
        asked.sendto(DIAG_HEAD.pack(DIAG_HEAD.size + len(wanted), SOCK_DIAG_BY_FAMILY, DUMP, 1, 0) + wanted, (0, 0))
        while True:
            data = asked.recv(1 << 18)
            while data:
                size, kind, *_ = DIAG_HEAD.unpack_from(data)
                if kind in (DONE, ERROR) or size < DIAG_HEAD.size:
                    return
                yield from times_in(data[DIAG_HEAD.size : size], family)
                data = data[(size + 3) & ~3 :]


def times_in(message: bytes, family: int) -> Iterator[tuple[int, int, int, int, str]]:
    """The connection that a message of the kernel is about, if it was used."""
    (port,), (inode,) = struct.unpack_from(">H", message, PORT), struct.unpack_from("=I", message, INODE)
    host = socket.inet_ntop(family, message[FAR_HOST : FAR_HOST + (4 if family == socket.AF_INET else 16)])
    (far,) = struct.unpack_from(">H", message, FAR_PORT)
    peer = f"{host}:{far}" if family == socket.AF_INET else f"[{host}]:{far}"
    at = ATTRIBUTES
    while at + ATTRIBUTE.size <= len(message):
        size, kind = ATTRIBUTE.unpack_from(message, at)
        info = message[at + ATTRIBUTE.size : at + size]
        if kind == INFO and len(info) >= BYTES + 16:
            acknowledged, received = struct.unpack_from("=QQ", info, BYTES)
            (sent_before,), (heard_before,) = (
                struct.unpack_from("=I", info, SENT),
                struct.unpack_from("=I", info, RECEIVED),
            )
            if received or acknowledged > ONLY_OPENED:
                yield port, inode, sent_before if acknowledged else -1, heard_before if received else -1, peer
        at += (max(size, ATTRIBUTE.size) + 3) & ~3
