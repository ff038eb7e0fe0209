"""Thread ids as the kernel's rows have them, where py-spy prints others or none.

In another pid namespace, such as a container's, it prints that namespace's ids. Before Python 3.11 the interpreter does
not know its threads' ids, and py-spy finds none there, nor in some forked processes, or finds the parent's; then the
id is read where glibc keeps it. What py-spy calls active is a guess in all these cases, so it is dropped.
"""

from __future__ import annotations

import json
import os
import platform
import re
from typing import Mapping

from hangdebug.capture.interpreter.memory import Unreadable, open_memory

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


def threads_by_inner_id(pid: int) -> dict[int, int]:
    """Our id of each of its threads by the one of its own namespace, which is the same where that is ours."""
    try:
        found = [namespace_ids(f"/proc/{pid}/task/{tid}/status") for tid in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return {}
    return {one[-1]: one[0] for one in found if one}


def dump_with_our_ids(pid: int, dump: str) -> tuple[str, int]:
    """py-spy's JSON with our ids, and how many threads had the number of another process's thread."""
    rows = json.loads(dump)
    foreign, known, wrong = namespace_depth(pid) > 1, threads_by_inner_id(pid), 0
    given = [row.get("os_thread_id") for row in rows]
    if not known or not foreign and all(one in known for one in given):
        return dump, 0
    free = set(known.values()) - set(given)
    for row, inner in zip(rows, given):
        stray = bool(inner) and inner not in known
        if stray and not foreign:
            own = our_id(pid, known, None, row.get("thread_id"))
            own = next(iter(free), None) if own is None and len(known) == 1 else own
            if own is None and not os.path.exists(f"/proc/{inner}"):
                continue  # it ended since it was seen
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
