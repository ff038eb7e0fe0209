"""The nouns of the answer: a verdict and the rules that reach it, how sure it is, and the diagnosis that is printed."""

from __future__ import annotations

from typing import Callable, Literal

from hangdebug.causes.model import Cause
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.model import KernelWait, Process, Thread
from hangdebug.evidence.vocabulary import EvidenceKind, Question, Role, State
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait, WaitsFor


@dataclass(frozen=True)
class Level:
    """A row of the table of certainty: what supports a state, and how sure that makes it (0 to 1)."""

    name: str
    figure: float
    reason: str


@dataclass(frozen=True)
class Limit:
    """What a rule knows that keeps its verdict from being surer than `most`, whatever its level."""

    name: str
    most: float
    reason: str


@dataclass(frozen=True)
class Verdict:
    """A state, what supports it and what might be otherwise; `wait` is the wait that explains it, None without one.

    A `bystander` serves nothing itself, such as a supervisor: it is not the answer while another process is.
    `ring` is the ring of waits that the state rests on, if any: each thread waits for the next one. `decides` is a
    command whose result would decide what is open, with `{pid}` for the process. `fix` is the rewrite that suits, where
    that of the cause does not. `kinds` is the evidence that names what is awaited, where the cause does not know it.
    """

    state: State
    level: Level
    evidence: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    wait: Wait | None = None
    limits: tuple[Limit, ...] = ()
    bystander: bool = False
    ring: tuple[WaitsFor, ...] = ()
    decides: str = ""
    fix: str = ""
    kinds: frozenset[EvidenceKind] = frozenset()


@dataclass(frozen=True)
class Rule:
    """One way to recognise a state. `ask` answers with a Verdict, or says in a sentence what it saw instead."""

    name: str
    question: Question
    ask: Callable[[Scene], Verdict | str]


@dataclass(frozen=True)
class StateEntry:
    """A state as its file gives it: its rules, the sentence that a person acts on, and what else follows from it.

    `repair` is what a remedy may hold: "code" a rewrite and a pattern, "pattern" the pattern alone (no coroutine has to
    be rewritten there), None neither. `well` is whether nothing is wrong; `decided` whether it says what is wrong;
    `on_loop` whether the loop's own thread is at fault; `names_cause` whether it waits for something that a cause
    should name; `follows` whether the report says whom the thread at fault waits for in turn; `exonerates_threads`
    whether threads beside it are innocent; `shows_caller` whether a coroutine that waits for a pool is shown where no
    thread of the pool shows a frame of the application; `without_loop` whether a process without an event loop may be
    in it.
    """

    name: State
    rules: tuple[Rule, ...]
    summary: Callable[[Scene, Verdict, Cause], str]
    repair: Literal["code", "pattern"] | None = "code"
    well: bool = False
    decided: bool = True
    on_loop: bool = False
    names_cause: bool = True
    follows: bool = True
    exonerates_threads: bool = True
    shows_caller: bool = False
    without_loop: bool = False


@dataclass(frozen=True)
class BlockingFrame:
    """The application's own frame that a person would open in an editor."""

    function: str
    file: str
    line: int | None
    source: str | None = None


@dataclass(frozen=True)
class Remedy:
    """What to do next: the snippet to copy, the rewrite to apply, the command that shows it as a diff.

    `by_hand` says which lines to change, by whom they are waited for and who should have gone on; "" where that is not
    known.
    """

    snippet: str | None
    fix: str | None
    command: str | None
    by_hand: str = ""


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

    `rule` is the id of the rule that decided the state, `trace` how it came to be asked. `read` is how much of a
    pasted text was read, in words.
    """

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
    rule: str = ""
    trace: Trace = Trace()
    read: str = ""
