"""How sure an answer is: the one table. A verdict names a level; named steps lead from it to the figure that is shown.

A level says which evidence supports the state. A step says what else is known: what the cause rests on, and what makes
the whole less sure. No other module holds a figure.
"""

from __future__ import annotations

from collections.abc import Set

from hangdebug.answer.model import Level, Limit, Step
from hangdebug.evidence.light import dataclass
from hangdebug.evidence.vocabulary import EvidenceKind

# -- levels: what supports the state, the strongest first -------------------------------------------------

PROVED = Level("proved", 0.95, "Two kinds of evidence agree, and nothing moved while nobody looked.")
LISTED = Level("listed", 0.95, "The list of tasks holds both sides of the wait, and nobody else could end it.")
SHOWN = Level("shown", 0.92, "The wait and what it does to others were both seen.")
AGREED = Level("agreed", 0.9, "All samples agree; no second kind of evidence was there to ask.")
EXCLUDED = Level("excluded", 0.88, "Everybody who could end the wait was looked at, and nobody will.")
LIKELY = Level("likely", 0.85, "The evidence agrees, and one part of it is concluded and not seen.")
PLAUSIBLE = Level("plausible", 0.8, "The evidence fits, and a rarer explanation is left.")
ONE_SIDED = Level("one-sided", 0.75, "One side was seen; the other, which would settle it, was not.")
MOMENT = Level("moment", 0.7, "One moment shows the wait, not how long it lasts.")
BRIEF = Level("brief", 0.65, "Few samples: one long piece of work and many short ones look alike.")
OPEN = Level("open", 0.6, "What was seen fits this state, and another one as well.")
EVEN = Level("even", 0.5, "Two explanations are equally good.")
FAINT = Level("faint", 0.4, "One sign points there.")
UNKNOWN = Level("unknown", 0.3, "The evidence does not reach that far.")

# -- limits: what a rule knows that makes its verdict less sure -------------------------------------------

ONE_READING = Limit("one-reading", 0.7, "The tasks were read once: that is one moment.")
NOT_THE_SERVERS = Limit("not-the-servers-loop", 0.7, "It is not the server's own loop: that one is fine.")
COMPUTES_OR_ONCE = Limit("computes-or-one-sample", 0.65, "A slow request that computes, or was seen once, looks alike.")
SIDE_THREAD = Limit("side-thread", 0.6, "It is not the main thread: it may wait on purpose.")
ONE_MOMENT = Limit("one-moment", 0.6, "One dump shows one moment.")
OTHERS_SERVED = Limit("some-requests-stand", 0.6, "Some requests stand still; others are served.")
REQUEST_STANDS = Limit("request-stands", 0.6, "A request without an answer waits all the time.")
GREENLETS_UNREAD = Limit("greenlets-unread", 0.6, "What greenlets wait for that do not run now cannot be read.")
RUNTIME_UNREAD = Limit("runtime-unread", 0.6, "The tasks of this runtime are not read.")
THREADS_STAND = Limit("threads-stand", 0.6, "Threads stand in one place in every dump.")
GIL_TAKEN = Limit("gil-taken", 0.6, "One thread holds the GIL in every sample.")
TASKS_UNREAD = Limit("tasks-unread", 0.9, "What the coroutines wait for is not known.")
STACKS_ALONE = Limit("stacks-alone", 0.6, "Stacks alone show no coroutine that waits.")
UNSEEN_COROUTINES = Limit("unseen-coroutines", 0.7, "No list of tasks was read.")
NO_SPARE_THREAD = Limit("no-spare-thread", 0.7, "A pool has no thread left for one more call.")
BUSY_AT_TIMES = Limit("busy-at-times", 0.7, "The loop was not idle in every sample.")

# How surely somebody owes a script the end of its wait: see Cause.owed.
OWED = {"surely": PLAUSIBLE, "likely": ONE_SIDED, "perhaps": OPEN}


# -- steps: from the level to the figure ------------------------------------------------------------------


@dataclass(frozen=True)
class Weight:
    """A step that every answer passes: the figure is multiplied by `factor`, and is at most `most`."""

    name: str
    reason: str
    factor: float = 1.0
    most: float = 1.0


SEVERAL_KINDS = Weight("cause: several kinds agree", "Two kinds of evidence name the same cause.")
# One kind alone, the strongest first: where several are asked for, the first that is there counts.
ONE_KIND: dict[EvidenceKind, Weight] = {
    "frames": Weight("cause: frames", "The stack names the library call that waits.", 0.99),
    "tasks": Weight("cause: tasks", "The task list names what is awaited.", 0.99),
    "kernel": Weight("cause: kernel", "The kernel names the system call, which several causes share.", 0.95),
    "source": Weight("cause: source", "The line names the call; whether it waits there is concluded.", 0.9),
}
NO_KIND = Weight("cause: nothing", "No kind of evidence names what is waited for.", 0.6)
GUESSED_LOOP = Weight("loop: concluded", "No frame shows the event loop; its thread is concluded.", 0.95)
NO_OWN_FRAME = Weight("frame: none", "No frame of the application is on the stack.", most=0.6)
CLEAR = 0.8  # an answer below this comes with the next command
FIRM = 0.6  # "nothing is stuck" is said above this; at most this, the summary says what was not seen
WATCH_AGAIN = CLEAR  # a live look takes one more second below this


def steps(
    level: Level,
    limits: tuple[Limit, ...],
    kinds: Set[EvidenceKind],
    guessed_loop: bool,
    no_own_frame: bool,
) -> tuple[Step, ...]:
    """From the level to the figure that is shown, which is the last step's: a row each, rounded for show only there."""
    found = [Step(f"state: {level.name}", level.figure, level.reason)]
    value = level.figure
    for limit in limits:
        value = min(value, limit.most)
        found.append(Step(f"limit: {limit.name}", value, limit.reason))
    for weight in weights(kinds, guessed_loop, no_own_frame):
        value = min(value * weight.factor, weight.most)
        found.append(Step(weight.name, value, weight.reason))
    return (*found[:-1], Step(found[-1].name, round(found[-1].figure, 2), found[-1].reason))


def weights(kinds: Set[EvidenceKind], guessed_loop: bool, no_own_frame: bool) -> tuple[Weight, ...]:
    alone = next((weight for kind, weight in ONE_KIND.items() if kind in kinds), NO_KIND)
    return (
        SEVERAL_KINDS if len(kinds) > 1 else alone,
        *([GUESSED_LOOP] if guessed_loop else []),
        *([NO_OWN_FRAME] if no_own_frame else []),
    )


def lowest(level: Level, *limits: Limit) -> float:
    """The figure of a verdict before the cause is known."""
    return min([level.figure, *(limit.most for limit in limits)])
