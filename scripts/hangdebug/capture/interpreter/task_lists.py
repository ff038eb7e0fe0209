"""The tasks of CPython 3.14 and newer: each thread keeps a list of its own, the interpreter one of threads that ended.

A list is a ring of nodes, each inside of a task but one, its head. Every node names the next and the one before, so a
ring that was changed while it was read does not close and is not believed. The lists hold pending tasks alone.
"""

from __future__ import annotations

import time
from typing import Iterator

from hangdebug.capture.interpreter.layout import GC_FLAGS, GC_HEAD, MOST_NODES, Layout
from hangdebug.capture.interpreter.memory import Memory, Unreadable
from hangdebug.capture.interpreter.objects import Objects

MOST_THREADS, MOST_SECONDS, NEIGHBOURS = 20_000, 0.5, 64


class Moved(Unreadable):
    """A list changed while it was read."""


def listed_tasks(memory: Memory, layout: Layout, interpreter: int) -> Iterator[int]:
    """Where the tasks are. Raises Moved, Unreadable."""
    yield from tasks_in_ring(memory, layout, interpreter + layout.left_tasks)
    thread = memory.word(interpreter + layout.threads)
    for _ in range(MOST_THREADS):
        if not thread:
            return
        yield from tasks_in_ring(memory, layout, thread + layout.thread_tasks)
        thread = memory.word(thread + layout.next_thread)
    raise Moved("its threads were changed while they were read")


def tasks_in_ring(memory: Memory, layout: Layout, head: int) -> Iterator[int]:
    """The tasks in one list; none where a thread has not begun one."""
    before, node = head, memory.word(head)
    for _ in range(MOST_NODES):
        if node and memory.word(node + 8) != before:
            break
        if not node or node == head:
            return
        yield node - layout.task_node
        before, node = node, memory.word(node)
    raise Moved("its tasks were changed while they were read")


def collected_tasks(objects: Objects, interpreter: int) -> Iterator[int]:
    """The tasks among all objects that the garbage collector knows, also ended ones, which are in no list any more.

    It keeps rings too, one a generation, whose heads stand side by side. A ring that changes is followed no further.
    """
    end = time.monotonic() + MOST_SECONDS
    heads = range(
        interpreter + objects.layout.collector - NEIGHBOURS, interpreter + objects.layout.collector + NEIGHBOURS + 1, 8
    )
    for head in heads:
        try:
            last = objects.memory.word(head + 8) & ~GC_FLAGS
            if last and objects.memory.word(last) & ~GC_FLAGS == head:  # else it is no head
                yield from (at for at in tasks_in_generation(objects, head, end) if "Task" in objects.kinds(at))
        except Unreadable:
            continue


def tasks_in_generation(objects: Objects, head: int, end: float) -> Iterator[int]:
    """The objects in one ring whose type's name is a task's."""
    word, before, node, count = objects.memory.word, head, objects.memory.word(head) & ~GC_FLAGS, 0
    tasks: dict[int, bool] = {}  # by type: there are a hundred objects of each
    while node != head and word(node + 8) & ~GC_FLAGS == before:
        count += 1
        if count % 1000 == 0 and time.monotonic() > end:
            return
        type_ = word(node + GC_HEAD + 8)
        if type_ not in tasks:
            tasks[type_] = objects.name_of_type(type_).endswith("Task")
        if tasks[type_]:
            yield node + GC_HEAD
        before, node = node, word(node) & ~GC_FLAGS
