"""The words that answers are made of, each once: what is no word of this list is a mistake that a type checker finds.

What a word means is explained where it is given: a state in answer/states/, a role in evidence/frames.py, an edge in
scene/graph.py.
"""

from __future__ import annotations

from typing import Literal, get_args

# In the order of what to act on first, where several processes behind one port differ.
State = Literal[
    "deadlock",
    "loop-blocked",
    "exit-hang",
    "startup-hang",
    "loop-busy",
    "threadpool-exhausted",
    "stopped",
    "sync-worker-blocked",
    "tasks-waiting",
    "inconclusive",
    "healthy",
]
Role = Literal["event-loop", "worker", "main", "other"]  # of a thread
EvidenceKind = Literal["frames", "source", "kernel", "tasks"]
# What is asked of the evidence, in this order; a rule of a state answers one of these.
Question = Literal[
    "did the kernel stop it",
    "is it a forked child that waits for a lock",
    "does a log state what is wrong",
    "is it a supervisor",
    "does the interpreter end",
    "do threads wait in a ring",
    "does another thread keep the GIL",
    "does the loop's thread go on",
    "does the program start",
    "does the lifespan go on",
    "is a pool of threads or connections full",
    "was it told to stop",
    "do tasks wait for what never comes",
    "does a log say that a step held the loop",
    "is the idle loop well",
    "do synchronous workers go on",
    "does it serve nothing itself",
    "what is left",
]
StatementKind = Literal[
    "loop-held", "killed", "test-timeout", "interrupted", "stopping", "stopped", "crashed", "c-only", "unanswered"
]  # what a line of a log says
EdgeKind = Literal["lock", "future", "join", "pool", "loop", "task"]  # what lies between one who waits and the other
# What is known of the end of a request's wait: it has moved meanwhile; it is a stream or a long poll that can be fed;
# somebody is in sight who may end it; a peer alone can, without a time-out; nobody is.
Outlook = Literal["moved", "fed", "expected", "peer", "unseen"]

STATES: tuple[State, ...] = get_args(State)
ROLES: tuple[Role, ...] = get_args(Role)
EVIDENCE_KINDS: tuple[EvidenceKind, ...] = get_args(EvidenceKind)
QUESTIONS: tuple[Question, ...] = get_args(Question)
EDGE_KINDS: tuple[EdgeKind, ...] = get_args(EdgeKind)
