"""The rewrites, in the order in which they run. One file each; files with a leading underscore serve them.

A rule that takes a block apart edits libcst's tree; one that replaces a call edits its span of the text. Importing
this package needs libcst: hangdebug.fix imports it when the first file is read, not before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Callable

from hangdebug.fixes import (
    _spans, asyncio_lock, await_future, lifespan, nonblocking_executor, sleep, sync_endpoint, to_thread,
)
from hangdebug.fixes._file import tree_of
from hangdebug.fixes._spans import with_imports
from hangdebug.fixes._spot import Need, Spot, spot
from hangdebug.model import Finding

__all__ = ["RULES", "Rule", "Spot", "spot", "tree_of", "with_imports"]


@dataclass(frozen=True)
class Rule:
    """`rewrite(source, file, line, exact=..., imports=...)` answers with the new source and its findings.

    `line` may be None. A finding outside of `line`'s construct, or if not `exact` of its function, is left out, and
    so is its edit. A file that meets none of `needs` has nothing for the rule.
    """

    id: str
    about: str
    needs: tuple[Need, ...]
    rewrite: Callable[..., "tuple[str, tuple[Finding, ...]]"]

    def concerns(self, source: str, seen: Spot | None) -> bool:
        """`seen` is what `spot` says of the file, None where this Python cannot parse it."""
        return seen is None or any(need.met(source, seen) for need in self.needs)


def rule(module: ModuleType) -> Rule:
    rewrite = getattr(module, "rewrite", None) or partial(_spans.rewrite, module.ID, module.search)
    return Rule(module.ID, module.__doc__.partition("\n")[0], module.NEEDS, rewrite)


# A route made synchronous needs no other rule; awaited futures let an executor's exit be mended; the handlers of a
# lifespan are told by their decorators until `lifespan` takes these off. Rules that add lines come last, so that the
# messages of the others name the lines of the file as it is.
RULES = tuple(map(rule, (sync_endpoint, sleep, asyncio_lock, await_future, nonblocking_executor, to_thread, lifespan)))
