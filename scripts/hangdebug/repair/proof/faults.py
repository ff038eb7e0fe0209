"""Why an answer proves nothing: wrong place, a cache, another server than at first, a worker that was not asked.

Each function gives its reasons as sentences, and none where all is well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urljoin, urlsplit

from hangdebug.repair.proof.curl import Answer
from hangdebug.repair.proof.server import Counts, Serving

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
    there = urljoin(url, answer.head.get("location", ""))
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
