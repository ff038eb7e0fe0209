"""The kernel's tables of TCP connections, /proc/PID/net/{tcp,tcp6}: who is connected, who waits, what was accepted.

    0: 0100007F:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000  1000 0 41325 1 ...

A bundle may come from anybody, or have been cut short: rows of another shape are left out.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import Clients, Process

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
    sent something, -1 for never. A row that begins with "peer" is of a connection that the target has opened itself.
    """
    rows = [line.split() for line in text.splitlines() if line[:1] != "#"]
    times = [[number(word) for word in row] for row in rows if len(row) == 3 and row[0] != "peer"]
    waits = [row[1] for row in times if row[1] >= LONG_FOR_AN_ANSWER and not -1 < row[2] <= row[1]]
    heard = [number(row[1]) for row in rows if len(row) == 3 and row[0] == "peer"]
    return replace(
        counted,
        waits=tuple(milliseconds / 1000 for milliseconds in sorted(waits, reverse=True)),
        heard=min(heard) / 1000 if heard else None,
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
