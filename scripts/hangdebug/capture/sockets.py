"""Whether a process accepts connections, and whether it holds one that it accepted: is it stopping, or starting?

`sockets` are psutil's rows of all its sockets, asked for once; None where this user may not see them.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any, Sequence

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
        or one.family == getattr(socket, "AF_UNIX", None)
        and isinstance(one.laddr, str)
        and one.laddr
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
        and (not low <= one.laddr.port <= high or one.laddr.ip == one.raddr.ip and one.raddr.port not in listened)
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
