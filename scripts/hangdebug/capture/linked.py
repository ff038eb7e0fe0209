"""The tasks of CPython 3.14 and newer: each thread keeps a list of its own, the interpreter one of threads that ended.

A list is a ring of nodes, each inside of a task but one, its head. Every node names the next and the one before, so a
ring that was changed while it was read does not close and is not believed.
"""

from __future__ import annotations

from typing import Iterator

from hangdebug.capture.memory import Memory, Unreadable
from hangdebug.capture.layout import Layout

MOST_THREADS, MOST_NODES = 20_000, 100_000


class Moved(Unreadable):
    """A list changed while it was read."""


def linked(memory: Memory, layout: Layout, interpreter: int) -> Iterator[int]:
    """Where the tasks are. Raises Moved, Unreadable."""
    yield from ring(memory, layout, interpreter + layout.left_tasks)
    thread = memory.word(interpreter + layout.threads)
    for _ in range(MOST_THREADS):
        if not thread:
            return
        yield from ring(memory, layout, thread + layout.thread_tasks)
        thread = memory.word(thread + layout.next_thread)
    raise Moved("its threads were changed while they were read")


def ring(memory: Memory, layout: Layout, head: int) -> Iterator[int]:
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
