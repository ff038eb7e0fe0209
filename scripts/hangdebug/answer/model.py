"""The nouns of the answer: a verdict, and the diagnosis that is printed."""

from __future__ import annotations

from dataclasses import dataclass

from hangdebug.evidence.model import KernelWait, Process, Thread
from hangdebug.evidence.vocabulary import STATES as STATES
from hangdebug.evidence.vocabulary import Role, State
from hangdebug.scene.model import WaitsFor


@dataclass(frozen=True)
class Verdict:
    """A state, how sure it is (0 to 1), what says so and what might be otherwise.

    A `bystander` serves nothing itself, such as a supervisor: it is not the answer while another process is.
    `waits_for` is the ring of waits that the state rests on, if any: each thread waits for the next one.
    """

    state: State
    confidence: float
    evidence: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    bystander: bool = False
    waits_for: tuple[WaitsFor, ...] = ()


@dataclass(frozen=True)
class BlockingFrame:
    """The application's own frame that a person would open in an editor."""

    function: str
    file: str
    line: int | None
    source: str | None = None


@dataclass(frozen=True)
class Remedy:
    """What to do next: the snippet to copy, the rewrite to apply, the command that shows it as a diff."""

    snippet: str | None
    fix: str | None
    command: str | None


@dataclass(frozen=True)
class Diagnosis:
    """The answer. Its JSON form is the contract of version 1 (report.as_json)."""

    state: State
    cause: str
    confidence: float
    summary: str
    blocking_frame: BlockingFrame | None = None
    thread: Thread | None = None
    role: Role | None = None
    kernel_wait: KernelWait | None = None
    evidence: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    exonerated: tuple[str, ...] = ()
    remedy: Remedy | None = None
    process: Process = Process()
    samples: int = 1
    others: tuple[str, ...] = ()
    bystander: bool = False
    waits_for: tuple[WaitsFor, ...] = ()
