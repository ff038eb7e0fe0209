"""The words that answers are made of, each once: what is no word of this list is a mistake that a type checker finds.

What a word means is explained where it is given: a state in answer/states/, a role in evidence/roles.py, an edge in
scene/graph.py.
"""

from __future__ import annotations

from typing import Literal, get_args

State = Literal[
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
]
Role = Literal["event-loop", "worker", "main", "other"]  # of a thread
EvidenceKind = Literal["frames", "source", "kernel", "tasks"]
EdgeKind = Literal["lock", "future", "join", "pool", "loop", "task"]  # what lies between one who waits and the other

STATES: tuple[State, ...] = get_args(State)
ROLES: tuple[Role, ...] = get_args(Role)
EVIDENCE_KINDS: tuple[EvidenceKind, ...] = get_args(EvidenceKind)
EDGE_KINDS: tuple[EdgeKind, ...] = get_args(EdgeKind)
