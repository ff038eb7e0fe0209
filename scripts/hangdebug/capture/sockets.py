"""Whether a process accepts connections, whether it holds one that it accepted, and which of its clients got no answer.

`sockets` are psutil's rows of all its sockets, asked for once; None where this user may not see them.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hangdebug.capture.proc import copy_descriptors
from hangdebug.evidence import light as re
from hangdebug.evidence import tcp

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
        ports |= {one.port for one in tcp.connections(text) if one.state == tcp.LISTEN}
    return ports


# -- when each connection was last used: the kernel's socket diagnosis, which needs no right ------------

# include/uapi/linux/{netlink,sock_diag,inet_diag,tcp}.h: a request for all open TCP sockets, with their `tcp_info`.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, DUMP, DONE, ERROR = 4, 20, 0x301, 3, 2
ESTABLISHED = 1 << 1  # the only state that is asked for
INFO, PORT, INODE, ATTRIBUTES = 2, 4, 68, 72
SENT, RECEIVED, BYTES = 44, 52, 120  # in tcp_info: milliseconds since, then bytes acknowledged and received
HEAD, ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")


def copy_answers(pid: int, listening: tuple[int, ...]) -> str:
    """A row for each client's connection that `pid` has accepted and that has sent something.

    The columns are the port, the milliseconds since the client sent something, and since it was sent something, -1 for
    never. The connections that `pid` has opened itself have "peer" for a port. "" where the kernel does not say.
    """
    try:
        if os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net"):
            return ""
        rows = [row for family in (socket.AF_INET, socket.AF_INET6) for row in connections_in_use(family)]
    except (OSError, AttributeError, struct.error):
        return ""
    own = {line.split("socket:[")[1][:-1] for line in copy_descriptors(pid).splitlines() if "socket:[" in line}
    found = ((port, sent, received) for port, inode, sent, received in rows if str(inode) in own)
    return "# port received sent\n" + "".join(
        f"{port if port in listening else 'peer'}\t{received}\t{sent}\n" for port, sent, received in found
    )


def connections_in_use(family: int) -> Iterator[tuple[int, int, int, int]]:
    """Of each TCP connection that has received something: its own port, inode, and milliseconds as in copy_answers."""
    wanted = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 1 << (INFO - 1), 0, ESTABLISHED)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as asked:
        asked.settimeout(1.0)
        asked.sendto(HEAD.pack(HEAD.size + len(wanted), SOCK_DIAG_BY_FAMILY, DUMP, 1, 0) + wanted, (0, 0))
        while True:
            data = asked.recv(1 << 18)
            while data:
                size, kind, *_ = HEAD.unpack_from(data)
                if kind in (DONE, ERROR) or size < HEAD.size:
                    return
                yield from times_in(data[HEAD.size : size])
                data = data[(size + 3) & ~3 :]


def times_in(message: bytes) -> Iterator[tuple[int, int, int, int]]:
    """The connection that a message of the kernel is about, if it has received something."""
    (port,), (inode,) = struct.unpack_from(">H", message, PORT), struct.unpack_from("=I", message, INODE)
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
            if received:
                yield port, inode, sent_before if acknowledged else -1, heard_before
        at += (max(size, ATTRIBUTE.size) + 3) & ~3
