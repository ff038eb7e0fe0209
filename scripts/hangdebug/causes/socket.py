"""A network peer that does not answer, over a protocol that is neither HTTP nor a database's.

`recv`, `accept`, `connect` and `sendall` of a plain socket are written in C and leave no frame; smtplib, ftplib,
paramiko, pika and their like show theirs. A blocking socket has no timeout unless it is given one, and a
timeout bounds each single call, not the exchange.

Repair: `asyncio.open_connection` or an asynchronous client; or the whole exchange in a thread
(`await asyncio.to_thread(talk)`) with a timeout on the socket.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.causes.sleep import selects_nothing
from hangdebug.evidence.frames import calls
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

BROKERS = ("pika", "stomp", "zmq", "kombu", "amqp", "kafka", "paho", "nats", "pymodbus")
SERVICES = (
    "smtplib",
    "ftplib",
    "imaplib",
    "poplib",
    "nntplib",
    "telnetlib",
    "telnetlib3",
    "ldap3",
    "paramiko",
    "fabric",
    "aiosmtplib",
    "asyncssh",
    "aioftp",
)
PACKAGES = (*BROKERS, *SERVICES, "websocket", "websockets")
MODULES = ("socket.py", "ssl.py", "socketserver.py", "multiprocessing/connection.py")
STREAMS = ("asyncio/streams.py", "asyncio/selector_events.py", "anyio/_backends/_asyncio.py:receive")
RECEIVES = ("recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into")
SENDS = ("send", "sendall", "sendto", "sendmsg", "sendfile")
CONNECTS = ("accept", "connect", "connect_ex", "do_handshake", "create_connection")
READS = ("read", "readline", "readlines", "readinto", "write", "flush")  # of a socket's makefile()
TRANSFERS = ("recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "read", "write", "readv", "writev", "sendfile")
SYSCALLS = (*TRANSFERS, "accept", "accept4", "connect", "poll", "ppoll", "restart_syscall")


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or seen.state == "loop-busy":
        return None
    if wait.coroutine and wait.view.inner and calls(wait.view.inner[0], *STREAMS):
        words = f"It awaits {wait.outermost}: its peer is to send, or to take, something."
        return Match(frozenset({"tasks"}), (words,))
    peer = (f"The kernel has it in {wait.kernel}.",) if wait.on_network else ()
    if wait.inside_package(*PACKAGES) or (wait.view.inner and calls(wait.view.inner[0], *MODULES)):
        return Match(frozenset({"frames", "kernel"} if peer else {"frames"}), (f"It called {wait.outermost}.", *peer))
    if wait.starts_with("selectors.py:select"):
        return Match(frozenset({"frames"}), (f"It called {wait.outermost}, which waits for a descriptor.",))
    if not wait.leaf or wait.running:
        return None
    by_line = wait.line_says(*RECEIVES, *SENDS, *CONNECTS) or (wait.line_says(*READS) and wait.on_network)
    if by_line and wait.on_network and wait.in_syscall(*SYSCALLS):
        return Match(frozenset({"source", "kernel"}), (f"Its line uses a socket: {wait.text}", *peer))
    polls = wait.line_calls("select.select", "select.poll", "poll") and not selects_nothing(wait)
    if polls or (by_line and wait.syscall in (None, "restart_syscall")):
        return Match(frozenset({"source"}), (f"Its line waits for a descriptor: {wait.text}",))
    if wait.on_network and wait.in_syscall(*SYSCALLS) and not wait.entered:
        compiled = scene.evidence.compiled.get(wait.view.thread.os_id or -1, ())
        by_itself = bool(compiled) and wait.frame == compiled[0]
        return Match(frozenset({"kernel"} if by_itself else ()), peer)  # a driver in C: which protocol is not known
    return None


CAUSE = Cause(
    id="socket",
    title="the event loop's thread waits for a network peer",
    picture="network",
    match=match,
    confused_with={
        "http-client": "there a client library's frames stand between the application and the socket.",
        "file-io": "the same stack; the kernel says which descriptor it is: a peer, or a path.",
    },
    owed="perhaps",
    frames_wait=True,
)
