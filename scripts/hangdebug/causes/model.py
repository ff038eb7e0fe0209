"""The nouns of the causes: what one is, what is known when it is asked, and what recognised it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Callable, Literal

from hangdebug.evidence.light import dataclass
from hangdebug.evidence.vocabulary import EvidenceKind, State
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait, WaitsFor

# What a thread waits in, coarsely: a picture gives each of these a colour and a letter.
PictureGroup = Literal["computes", "thread", "lock", "queue", "sleep", "network", "file", "child", "other"]
# Whether somebody owes a script the end of such a wait: an answer from a peer surely, a message perhaps.
Owed = Literal["surely", "likely", "perhaps"]


@dataclass(frozen=True)
class Seen:
    """What is known when a cause is asked: the state, None where only a wait is looked at, and its ring of waits."""

    state: State | None = None
    ring: tuple[WaitsFor, ...] = ()


def computes(wait: Wait | None, seen: Seen) -> bool:
    """Whether the state says that a thread computes, or the thread does so where the state leaves it open."""
    left_open = seen.state in (None, "sync-worker-blocked", "startup-hang", "exit-hang")
    return seen.state == "loop-busy" or (left_open and wait is not None and bool(wait.running))


@dataclass(frozen=True)
class Match:
    """A cause recognised: the kinds of evidence that say so, and their words."""

    kinds: frozenset[EvidenceKind]
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cause:
    """One way to hang. `match` takes the scene, the wait in question and what is known, and gives a Match or None.

    `snippet` is a file in snippets/, `fix` a rewrite in repair/rules/, `confused_with` says how to tell other causes
    from it. `picture` is the group that a picture draws it in. `owed` is set where a script or job that waits so is
    owed an end, None where it may wait on purpose. `frames_wait` is whether its library's frames alone show that the
    call waits, and does not compute.
    """

    id: str
    title: str
    match: Callable[[Scene, Wait | None, Seen], Match | None]
    snippet: str | None = None
    fix: str | None = None
    confused_with: Mapping[str, str] = field(default_factory=dict)
    picture: PictureGroup = "other"
    owed: Owed | None = None
    frames_wait: bool = False
