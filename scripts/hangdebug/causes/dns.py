"""A host name is looked up on the event loop's thread.

`socket.getaddrinfo()` and everything that connects by name (requests, smtplib, a database driver) ask the name
server and block until it answers; with the usual settings a dead one costs 5 s a try, and more for each search
domain. No timeout of a client bounds it.

Repair: `await loop.getaddrinfo(...)`, which runs in a thread, or a client that is asynchronous; then look at the
name server itself.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence.frames import calls, package
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

LOOKUPS = ("socket.py:getaddrinfo", "socket.py:getfqdn")
RESOLVERS = ("dns", "pycares")
WORDS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo", "getfqdn")


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or seen.state == "loop-busy":
        return None
    inner = wait.view.inner
    if (inner and calls(inner[0], *LOOKUPS)) or any(package(frame) in RESOLVERS for frame in inner):
        asked = next(frame for frame in inner if calls(frame, *LOOKUPS) or package(frame) in RESOLVERS)
        return Match(frozenset({"frames"}), (f"It is in {asked}, which asks a name server.",))
    if wait.leaf and not wait.running and wait.line_says(*WORDS):
        return Match(frozenset({"source"}), (f"Its line looks up a host name: {wait.text}",))
    # A connection is a TCP peer in the kernel's words, once the name is known.
    unknown = set(wait.descriptors.values()) == {"socket"} and wait.in_syscall("poll", "ppoll")
    if wait.leaf and not wait.running and unknown and wait.line_says("connect", "connect_ex"):
        words = (
            f"Its line connects, but the kernel has it in {wait.kernel}, which is no connection: it asks a name server."
        )
        return Match(frozenset({"source", "kernel"}), (words,))
    return None


CAUSE = Cause(
    id="dns",
    title="the event loop's thread waits for a name server",
    picture="network",
    fix="to_thread",
    match=match,
    confused_with={"http-client": "there the name is known already, and the peer itself is silent."},
    owed="likely",
    frames_wait=True,
)
