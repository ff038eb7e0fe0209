"""Thread ids as the kernel's rows have them, where py-spy prints others or none.

In another pid namespace, such as a container's, it prints that namespace's ids. Before Python 3.11 the interpreter does
not know its threads' ids, and py-spy finds none there, nor in some forked processes; then the id is read where glibc
keeps it. What py-spy calls active is a guess in all these cases, so it is dropped.
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


def dump_with_our_ids(pid: int, dump: str) -> str:
    """py-spy's JSON with our ids."""
    rows = json.loads(dump)
    foreign = namespace_depth(pid) > 1
    if not foreign and all(row.get("os_thread_id") for row in rows):
        return dump
    known = threads_by_inner_id(pid)
    for row in rows if known else ():
        if foreign or not row.get("os_thread_id"):
            row.update(os_thread_id=our_id(pid, known, row.get("os_thread_id"), row.get("thread_id")), active=None)
    return json.dumps(rows, indent=1)


def stacks_with_our_ids(pid: int, profile: str) -> str:
    """py-spy's collapsed stacks with our ids."""
    foreign = namespace_depth(pid) > 1
    heads = {head for head in HEAD.findall(profile) if foreign or head.startswith("0x")}
    known = threads_by_inner_id(pid) if heads else {}
    made = {}
    for head in heads:
        number = int(head, 0)
        made[head] = our_id(pid, known, None if head.startswith("0x") else number, number)
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
