"""The nouns of the answer: the states, a verdict, and the diagnosis that is printed."""

from __future__ import annotations

from dataclasses import dataclass

from hangdebug.evidence.model import KernelWait, Process, Thread
from hangdebug.scene.model import WaitsFor

STATES = (
    "loop-blocked",
    "loop-busy",
    "threadpool-exhausted",
    "deadlock",
    "tasks-waiting",
    "exit-hang",
    "startup-hang",
    "sync-worker-blocked",
    "stopped",
    "healthy",
    "inconclusive",
)


@dataclass(frozen=True)
class Verdict:
    """A state, how sure it is (0 to 1), what says so and what might be otherwise.

    A `bystander` serves nothing itself, such as a supervisor: it is not the answer while another process is.
    `waits_for` is the ring of waits that the state rests on, if any: each thread waits for the next one.
    """

    state: str
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
class Asked:
    """One rule that was asked: the state whose file it stands in, and what it saw ("" where it did not apply)."""

    rule: str
    state: str
    saw: str
    spoke: bool


@dataclass(frozen=True)
class Step:
    """One step of the certainty, and the figure (0 to 1) after it."""

    name: str
    figure: float
    reason: str


@dataclass(frozen=True)
class Trace:
    """How the answer came about: the rules in the order in which they were asked, then the steps of the certainty."""

    asked: tuple[Asked, ...] = ()
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """The answer. Its JSON form is the contract of version 1 (report.as_json).

    `rule` is the id of the rule that decided the state, `trace` how it came to be asked.
    """

    state: str
    cause: str
    confidence: float
    summary: str
    blocking_frame: BlockingFrame | None = None
    thread: Thread | None = None
    role: str | None = None
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
    rule: str = ""
    trace: Trace = Trace()
