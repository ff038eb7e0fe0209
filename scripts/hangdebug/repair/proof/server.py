"""The server behind a URL, where it runs on this machine: who serves, what each process holds, who was left behind.

All of it is read from /proc, so elsewhere than on Linux, and for processes of another user, less is known. Nothing is
attached but for counting tasks and threads at work, which needs a pid that was named.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from hangdebug.errors import HangError, NoProcess
from hangdebug.evidence import kernel
from hangdebug.evidence.light import dataclass
from hangdebug.repair.proof.curl import Answer

SOCKET = "socket:["


@dataclass(frozen=True)
class Counts:
    """What a process and its children hold. `tasks` and `at_work` are None where they could not be read.

    `at_work` counts pool threads that are not idle.
    """

    threads: int
    files: int
    tasks: int | None
    at_work: int | None


@dataclass(frozen=True)
class Serving:
    """Who listens on a port: the listening sockets, and (pid, when it started) of each process that has one."""

    sockets: frozenset[str]
    processes: frozenset[tuple[int, int]]

    @property
    def workers(self) -> frozenset[int]:
        """The processes without those that only watch over others."""
        pids = {pid for pid, _ in self.processes}
        return frozenset(pid for pid in pids if not pids & set(children(pid)))


def counted(pid: int) -> Counts:
    """Count for a process and its children. Raises NoProcess."""
    pids = family(pid)
    tasks = [pending_tasks(one) for one in pids]
    busy = [threads_at_work(one) for one in pids]
    return Counts(
        sum(map(threads_of, pids)),
        sum(len(descriptors(one)) for one in pids),
        None if all(one is None for one in tasks) else sum(one or 0 for one in tasks),
        None if all(one is None for one in busy) else sum(one or 0 for one in busy),
    )


def threads_of(pid: int) -> int:
    """Raises NoProcess where it is gone, or where there is no /proc."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
    except OSError as error:
        raise NoProcess(
            f"The threads of process {pid} cannot be counted.", "It ended, or this is not Linux.", "leave --pid out"
        ) from error


def pending_tasks(pid: int) -> int | None:
    from hangdebug.capture.interpreter.tasks import tasks_of

    found = tasks_of(pid)
    pending = sum(not one.state.startswith("failed") for one in found.tasks)
    return None if found.note and not pending else pending


def threads_at_work(pid: int) -> int | None:
    """How many pool threads are not idle now, in one dump; None where it cannot be taken."""
    from hangdebug.answer.diagnose import evidence_of
    from hangdebug.capture import pyspy
    from hangdebug.evidence.paste import read
    from hangdebug.scene.scene import scene

    try:
        seen = scene(evidence_of(read(pyspy.dump(pid)))[0])
    except HangError:
        return None
    return sum(not view.idle for view in seen.threads("worker"))


# -- processes ------------------------------------------------------------------------------------------


def family(pid: int) -> list[int]:
    """The process and those below it."""
    return [pid, *(below for child in children(pid) for below in family(child))]


def children(pid: int) -> list[int]:
    found: list[int] = []
    for tid in names_in(f"/proc/{pid}/task"):
        try:
            found += map(int, Path(f"/proc/{pid}/task/{tid}/children").read_text().split())
        except OSError:  # the thread has ended
            continue
    return found


def started_at(pid: int) -> int | None:
    """When it started, in the kernel's ticks since boot: two processes of one pid differ in it. None: it has ended."""
    try:
        state, *facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state == "Z" else int(facts[18])
    except (OSError, ValueError, IndexError):
        return None


def started_by(pid: int) -> dict[int, int | None]:
    """The processes below it, with when each of them started."""
    return {below: started_at(below) for below in family(pid)[1:]}


def still_there(pids: Mapping[int, int | None]) -> list[int]:
    return [pid for pid, began in pids.items() if began is not None and started_at(pid) == began]


def descriptors(pid: int) -> dict[str, str]:
    """What its descriptors are, by number; {} where they are not to be seen."""
    found = {}
    for fd in names_in(f"/proc/{pid}/fd"):
        try:
            found[fd] = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:  # closed meanwhile
            continue
    return found


def names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


# -- sockets --------------------------------------------------------------------------------------------


def serving(port: int) -> Serving:
    """Who listens on a port of this machine; nobody where that is not known."""
    sockets = frozenset(one.inode for one in rows() if one.port == port and one.state == kernel.LISTEN)
    if not sockets:
        return Serving(sockets, frozenset())
    found = set()
    for name in names_in("/proc"):
        if name.isdigit() and sockets & inodes_of(int(name)) and (began := started_at(int(name))) is not None:
            found.add((int(name), began))
    return Serving(sockets, frozenset(found))


def inodes_of(pid: int) -> set[str]:
    return {target[len(SOCKET) : -1] for target in descriptors(pid).values() if target.startswith(SOCKET)}


def connections_of(port: int, workers: frozenset[int], clients: Iterable[int]) -> dict[str, int]:
    """Which worker has each connection (its inode) that these clients (pids) have opened on a port."""
    table = list(rows())
    theirs = {inode for pid in clients for inode in inodes_of(pid)}
    ports = {one.port for one in table if one.inode in theirs}
    ours = {one.inode for one in table if one.port == port and int(one.there[-4:], 16) in ports}
    return {inode: pid for pid in workers for inode in inodes_of(pid) & ours}


def rows() -> Iterator[kernel.Connection]:
    for name in ("tcp", "tcp6"):
        try:
            yield from kernel.connections(Path(f"/proc/self/net/{name}").read_text())
        except OSError:
            continue


def never_closed(connections: dict[str, int], patience: float) -> dict[int, int]:
    """How many of these connections each process still holds, {} as soon as none does, after `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        left = {inode: pid for inode, pid in connections.items() if inode in inodes_of(pid)}
        if not left or time.monotonic() >= end:
            return {pid: list(left.values()).count(pid) for pid in sorted(set(left.values()))}
        time.sleep(0.05)


# -- why a proof fails ---------------------------------------------------------------------------------

OLD_DATE = 3.0  # seconds in which the header Date has to move
MORE = 2  # tasks above those before that still count as back
CACHES = ("x-cache", "cf-cache-status", "cache-status", "x-proxy-cache", "x-cache-status")


def bad_status(url: str, answer: Answer, expect: Sequence[int], unless: str) -> str:
    """Its status, or a redirect that leads elsewhere; "" where it is right. `unless` says how to expect it."""
    status = answer.status or 0
    if 200 <= status < 300 or status in expect:
        return ""
    if not 300 <= status < 400:
        hint = "Is it the right URL? " if status in (404, 405) else ""
        return f"answers {status}. {hint}Where that is right, {unless}."
    if "location" not in answer.head:
        return f"answers {status} without a Location, which is no answer to a probe. Where that is right, {unless}."
    there = urljoin(url, answer.head["location"])
    if place_of(there) == place_of(url):
        return ""
    return (
        f"answers {status} and sends its client to {there}. That says nothing of this URL; where it is right, {unless}."
    )


def place_of(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.netloc, parts.path.rstrip("/")


def from_a_cache(url: str, first: tuple[float, Answer], last: tuple[float, Answer]) -> Iterator[str]:
    """An answer out of a cache says nothing of the server behind it. Each comes with the second when it came."""
    head, waited = last[1].head, last[0] - first[0]
    why = cache_header(head)
    if not why and waited >= OLD_DATE and "date" in head and first[1].head.get("date") == head["date"]:
        why = f"its Date did not move in {waited:.0f} s"
    if why:
        yield f"{url} is answered by a cache ({why}), not by the server. Probe the server's own port."


def cache_header(head: Mapping[str, str]) -> str:
    """What in the headers says that a cache has answered, or ""."""
    if head.get("age", "") not in ("", "0"):
        return f"Age: {head['age']}"
    return next((f"{name}: {head[name]}" for name in CACHES if "hit" in head.get(name, "").lower()), "")


def another_server(then: Serving, now: Serving) -> str:
    """A server that was started anew has forgotten what hung it."""
    gone = sorted(pid for pid, _ in then.processes - now.processes)
    if gone:
        who = f"{listed(gone)} listened at first, and {'is' if len(gone) == 1 else 'are'} gone"
        return f"The server was restarted in between: process {who}. What answers now was not there at the beginning."
    if then.sockets.isdisjoint(now.sockets):
        return "The server was restarted in between: another socket listens on the port now."
    return ""


def not_the_process(pid: int, workers: Iterable[int], url: str) -> Iterator[str]:
    """The process whose threads are counted, or whose exit is timed, has to be the one that answers."""
    others = sorted(set(workers) - set(family(pid)))
    if others and len(others) == len(set(workers)):
        names = ", ".join(f"{one} ({name_of(one)})" for one in others)
        yield (
            f"Process {names} answers at {url}, and not process {pid}, nor one that it has started: what was measured "
            "there says nothing of these answers. Probe the port of the process itself; have it stay in the foreground."
        )


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "ended"


def readers_left(kept: Mapping[int, int], workers: int, seconds: float) -> Iterator[str]:
    """A worker that still has the connections of readers who left is hung. `kept` counts them by process."""
    for pid, count in kept.items():
        what = f"{count} connection{'s' * (count > 1)} whose reader left {seconds:g} s ago"
        why = "it hangs, and another process answers the probes" if workers > 1 else "it did not notice"
        yield f"Process {pid} still has {what}: {why}."


def workers_not_asked(workers: frozenset[int], asked: set[int], aborts: int) -> Iterator[str]:
    missed = sorted(workers - asked)
    if len(workers) > 1 and missed:
        yield (
            f"{len(workers)} workers share the port, and {listed(missed)} got none of the {aborts} streams: "
            "that one may hang as before. Ask for more --aborts."
        )


def left_behind(before: Counts, after: Counts, seconds: float) -> list[str]:
    """What goes on for clients who left."""
    found = []
    for noun, old, new, more in (
        ("pool threads work", before.at_work, after.at_work, 0),
        ("tasks are pending", before.tasks, after.tasks, MORE),
    ):
        if old is not None and new is not None and new > old + more:
            found.append(f"{new} {noun} {seconds:g} s after the replay, {old} before it: nothing stopped them.")
    return found


def listed(pids: Sequence[int]) -> str:
    return ", ".join(map(str, pids))
