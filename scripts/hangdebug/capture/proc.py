"""Copy the kernel's evidence from /proc as it stands. Reading it neither pauses nor disturbs the target.

What the rows mean is kernel.py's business, so that a bundle read elsewhere says the same as a live one.
"""

from __future__ import annotations

import glob
import os
import platform
import struct
import time
from pathlib import Path

from hangdebug.capture import redact
from hangdebug.capture.namespaces import depth, numbers
from hangdebug.evidence.kernel import ALONE, FUTEX_PRIVATE, TABLES, forever, syscall
from hangdebug.evidence.tcp import connections

MOST_THREADS = 20_000
MOST_POLLED = 16
MOST_SHARERS = 4
CHILD_COMMAND = 3  # words of a child's command line that are kept


def available(pid: int) -> bool:
    return Path(f"/proc/{pid}/task").is_dir()


def reading(pid: int) -> str:
    """The rows of all threads now. A thread that ends meanwhile is left out; raises ProcessLookupError."""
    arch = platform.machine()
    rows = [f"# at {time.monotonic():.4f} arch {arch} hz {os.sysconf('SC_CLK_TCK')}"]
    try:
        tids = sorted(map(int, os.listdir(f"/proc/{pid}/task")))[:MOST_THREADS]
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None
    for tid in tids:
        found = row(f"/proc/{pid}/task/{tid}", tid, pid, arch)
        if found:
            rows.append(found)
    return "\n".join(rows) + "\n"


def row(folder: str, tid: int, pid: int, arch: str) -> str | None:
    stat = content(f"{folder}/stat")
    if stat is None:
        return None
    counts = switches(content(f"{folder}/status") or "")
    call = content(f"{folder}/syscall") or ""
    polled = ",".join(map(str, polled_fds(pid, call, arch)))
    wchan = content(f"{folder}/wchan") or ""
    return "\t".join([str(tid), stat.rpartition(") ")[2], *counts, wchan, call, polled])


def stuck_alone(pid: int) -> bool:
    """Whether its only thread waits for a lock of its own process, without a timeout: nobody can release it."""
    reading_ = content(f"/proc/{pid}/task/{pid}/syscall") or ""
    name, args = syscall(reading_, TABLES.get(platform.machine(), {}))
    return len(glob.glob(f"/proc/{pid}/task/*")) == 1 and name == "futex" and forever(args)


def switches(status: str) -> tuple[str, str]:
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


def objects(pid: int, listening: tuple[int, ...]) -> dict[str, str]:
    """What descriptors, sockets and children are: the texts of fds.tsv, net.txt and children.tsv."""
    files = descriptors(pid)
    return {"fds.tsv": files, "net.txt": sockets(pid, files, listening), "children.tsv": children(pid)}


def descriptors(pid: int) -> str:
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


def sockets(pid: int, files: str, listening: tuple[int, ...]) -> str:
    """Rows of the TCP tables of the target's network namespace: its own sockets, and those on its ports.

    A connection that waits to be accepted has no descriptor yet, so it is known by its port alone.
    """
    own = {line.split("socket:[")[1][:-1] for line in files.splitlines() if "socket:[" in line}
    rows = []
    for name in ("tcp", "tcp6"):
        for line in (content(f"/proc/{pid}/net/{name}") or "").splitlines():
            if any(one.inode in own or one.port in listening for one in connections(line)):
                rows.append(f"{line}\n")
    return "".join(rows)


def children(pid: int) -> str:
    """The text of children.tsv: of each child its pid, its command line and the pipes that it has.

    The pid is the one in the target's own namespace, which is what its system calls name.
    """
    rows = []
    level = depth(pid)
    for list_ in glob.glob(f"/proc/{pid}/task/*/children"):  # a child belongs to the thread that forked it
        for child in map(int, (content(list_) or "").split()):
            own = numbers(f"/proc/{child}/status")[level - 1 :]
            pipes = {line.split("pipe:[")[1][:-1] for line in descriptors(child).splitlines() if "\tpipe:[" in line}
            rows.append(f"{own[0] if own else child}\t{command(child)}\t{' '.join(sorted(pipes))}")
    return "\n".join(rows) + "\n"


def sharers(pid: int) -> str:
    """The text of shared.tsv: of each semaphore that `pid` waits for and shares with others, which processes these are.

    Such a one lies in a file that is mapped, often one without a name any more. The kernel does not release it for
    an owner that was killed, so a semaphore that nobody else maps was left behind.
    """
    arch = platform.machine()
    calls = (syscall(content(path) or "", TABLES.get(arch, {})) for path in glob.glob(f"/proc/{pid}/task/*/syscall"))
    wanted = {args[0] for name, args in calls if name == "futex" and args and not args[1] & FUTEX_PRIVATE}
    found = {}
    for at in wanted:
        file = next((file for start, end, file in mapped(pid) if start <= at < end), None)
        if file is not None:
            found[at] = file
    others = {other: {file for _, _, file in mapped(other)} for other in processes() if other != pid} if found else {}
    rows = []
    for at, file in found.items():
        names = [f"{other}: {command(other)}" for other, files in others.items() if file in files]
        rows.append(f"{at}\t{', '.join(names[:MOST_SHARERS]) or ALONE}")
    return "\n".join(rows) + "\n" if rows else ""


def mapped(pid: int) -> list[tuple[int, int, str]]:
    """The parts of its memory that lie in files: start, end, and the file's device and inode."""
    rows = (line.split(None, 5) for line in (content(f"/proc/{pid}/maps") or "").splitlines())
    found = []
    for range_, _, _, device, inode, *_ in (row for row in rows if len(row) > 4 and row[4] != "0"):
        start, _, end = range_.partition("-")
        found.append((int(start, 16), int(end, 16), f"{device} {inode}"))
    return found


def processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def command(pid: int) -> str:
    words = (content(f"/proc/{pid}/cmdline") or "").split("\0")
    return redact.command(words, CHILD_COMMAND).strip()


def content(path: str) -> str | None:
    """A file's text, or None where it is gone or not for this user."""
    try:
        with open(path, encoding="utf-8", errors="replace") as opened:
            return opened.read().rstrip("\n")
    except OSError:
        return None
