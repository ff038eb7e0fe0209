"""The nouns of the causes: what one is, and what recognised it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Literal, Mapping

# What a thread waits in, coarsely: a picture gives each of these a colour and a letter.
PictureGroup = Literal["computes", "thread", "lock", "queue", "sleep", "network", "file", "child", "other"]


@dataclass(frozen=True)
class Match:
    """A cause recognised: the kinds of evidence that say so (`frames`, `source`, `kernel`, `tasks`) and their words."""

    kinds: frozenset[str]
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cause:
    """One way to hang. `match` takes a Scene and answers with a Match, or None.

    `snippet` is a file in snippets/, `fix` a rewrite in fixes/, `confused_with` other causes and how to
    tell them apart. `picture` is the group that a picture draws it in.
    """

    id: str
    title: str
    match: Callable[..., Match | None]
    snippet: str | None = None
    fix: str | None = None
    confused_with: Mapping[str, str] = field(default_factory=dict)
    picture: PictureGroup = "other"
