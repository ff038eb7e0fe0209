"""How many calls wait in the queue of each pool: concurrent.futures keeps a table of its threads and their queues.

A pool whose threads are all at work is full. It is exhausted only when work waits for one of them. A pool of processes
has one thread, which hands them their work; after a fork no such thread is left, of either kind of pool.
"""

from __future__ import annotations

from hangdebug.capture.interpreter.memory import Unreadable, open_memory
from hangdebug.capture.interpreter.objects import FIRST, Objects
from hangdebug.capture.interpreter.tasks import layout_for, modules_of

TABLES = {"concurrent.futures.thread": "_threads_queues", "concurrent.futures.process": "_threads_wakeups"}
# queue.SimpleQueue up to 3.12: a list, and how many of its first items are gone; from 3.13 on a ring with its count.
LIST, GONE, CAPACITY, COUNT = 32, 40, 48, 56


def queues_of(pid: int) -> dict[int, int]:
    """The number of calls that wait, by the kernel's id of each pool thread; {} where that cannot be read."""
    try:
        layout = layout_for(pid)
        with open_memory(pid) as memory:
            objects = Objects(memory, layout)
            modules = modules_of(objects, pid)
            names = [objects.mapping(memory.word(at + FIRST)) for name, at in modules.items() if name in TABLES]
            tables = [one[table] for one in names for table in TABLES.values() if table in one]
            rows = (row for at in tables for row in objects.pairs(objects.attributes(at)["data"]))
            return dict(queue_row(objects, reference, queue) for reference, queue in rows)
    except (Unreadable, LookupError, ValueError, OverflowError):
        return {}


def queue_row(objects: Objects, reference: int, queue: int) -> tuple[int, int]:
    """One row: the thread behind a weak reference, and the length of its queue. Raises Unreadable."""
    thread = objects.attributes(objects.memory.word(reference + FIRST))
    pending = thread.get("pending_work_items")  # of the thread that serves a pool of processes
    return objects.integer(thread["_native_id"]), objects.length(pending) if pending else queue_length(objects, queue)


def queue_length(objects: Objects, queue: int) -> int:
    memory = objects.memory
    if objects.type_name(queue) != "SimpleQueue":
        raise Unreadable(f"no queue at {queue:#x}")
    if objects.layout.version >= (3, 13):
        count, capacity = memory.word(queue + COUNT), memory.word(queue + CAPACITY)
    else:
        capacity = objects.length(memory.word(queue + LIST))
        count = capacity - memory.word(queue + GONE)
    if not 0 <= count <= capacity:
        raise Unreadable(f"no queue at {queue:#x}")
    return count
