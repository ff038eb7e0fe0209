"""The nouns of the causes: what one is, and what recognised it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Mapping

from hangdebug.evidence.vocabulary import EvidenceKind


@dataclass(frozen=True)
class Match:
    """A cause recognised: the kinds of evidence that say so and their words."""

    kinds: frozenset[EvidenceKind]
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cause:
    """One way to hang. `match` takes a Scene and answers with a Match, or None.

    `snippet` is a file in snippets/, `fix` a rewrite in fixes/, `confused_with` other causes and how to
    tell them apart.
    """

    id: str
    title: str
    match: Callable[..., Match | None]
    snippet: str | None = None
    fix: str | None = None
    confused_with: Mapping[str, str] = field(default_factory=dict)
