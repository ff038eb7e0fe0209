"""The nouns of a scene: who waits for whom, and a request that has had no answer yet."""

from __future__ import annotations

from dataclasses import dataclass

from hangdebug.evidence.model import Frame, Task
from hangdebug.evidence.vocabulary import EdgeKind, Outlook


@dataclass(frozen=True)
class WaitsFor:
    """Who waits for whom: `thread`, standing in `frame`, goes on when `waits_for` does. Both are names of threads.

    `kind` is what lies between them: "lock", "future", "join", "pool" (its queue), "loop" (a coroutine handed to it) or
    "task" (a coroutine that only the loop can resume); `through` says it in words. `sure` is False where names agree
    and it may still be another object; `concluded` is True where it follows from who is at work, and no line says it.
    """

    thread: str
    waits_for: str
    through: str
    frame: Frame | None = None
    kind: EdgeKind = "lock"
    sure: bool = True
    concluded: bool = False

    def __str__(self) -> str:
        where = f" in {self.frame}" if self.frame else ""
        return f"{self.thread} waits{where} for {self.through}."


@dataclass(frozen=True)
class OpenRequest:
    """A request, or a message, without an answer: the task that serves it, and what is known of the end of its wait.

    `by` says what it waits for, and who may end that. `job` is whether nobody has asked for it: a program's own work.
    """

    task: Task
    outlook: Outlook
    by: str
    job: bool = False


def drawing(edges: tuple[WaitsFor, ...]) -> str:
    """The chain of names, "MainThread -> cache-writer -> MainThread": a ring ends in the name that it begins with."""
    return " -> ".join([edge.thread for edge in edges] + [edges[-1].waits_for])
