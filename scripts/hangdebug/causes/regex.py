"""A regular expression backtracks on the event loop's thread.

A pattern with a repeat inside of a repeat, such as `(\\w+\\s?)*$`, can split the same text in very many ways, and
tries them all before it says that the text does not match: each further letter doubles the time. The matching
is written in C and keeps the GIL, so threads do not help either, and no timeout ends it.

Repair: rewrite the pattern so that each letter can be matched in one way only, bound the text's length before
matching, or use possessive quantifiers and atomic groups (Python 3.11), or an engine that never backtracks (re2).
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen, computes
from hangdebug.evidence.source import makers
from hangdebug.evidence.vocabulary import EvidenceKind
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

MODULES = ("re", "regex", "re2")
METHODS = ("match", "fullmatch", "search", "findall", "finditer", "sub", "subn")  # no str has these


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or not computes(wait, seen):
        return None
    kernel: set[EvidenceKind] = {"kernel"} if wait.motion.cpu is not None else set()
    if wait.inside_package(*MODULES):
        return Match(frozenset({"frames", *kernel}), (f"It called {wait.outermost}, and computes in the matching.",))
    if wait.leaf and any(calls_pattern(scene, wait, name) for name in wait.called):
        words = f"Its line matches a pattern, which is a C call without a frame: {wait.text}"
        return Match(frozenset({"source", *kernel}), (words,))
    return None


def calls_pattern(scene: Scene, wait: Wait, name: str) -> bool:
    """Whether a dotted name that the line calls is a function of a pattern: `re.search`, `FULL_NAME.match`."""
    owner, _, method = name.rpartition(".")
    if not owner or method not in (*METHODS, "split"):
        return False
    if method != "split" or owner in MODULES:
        return True
    made = makers(scene.evidence.sources, wait.frame, owner) if wait.frame else ()
    return any(maker == f"{module}.compile" for maker in made for module in MODULES)


CAUSE = Cause(
    id="regex",
    title="a regular expression backtracks on the event loop's thread",
    picture="computes",
    match=match,
    confused_with={"cpu-bound": "the same stack, for matching has no frame of its own; the line calls a pattern."},
)
