"""The rewrites, in the order in which they run. One file each."""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Callable

from hangdebug.evidence.light import dataclass
from hangdebug.repair.code.findings import Need, rewrite
from hangdebug.repair.model import Finding
from hangdebug.repair.rules import (
    asyncio_lock,
    await_future,
    give_back,
    lifespan,
    nonblocking_executor,
    read_pipes,
    release_permit,
    sleep,
    sync_endpoint,
    to_thread,
)


@dataclass(frozen=True)
class Rule:
    """`rewrite(source, file, line, exact=..., imports=...)` answers with the new source and its findings.

    `line` may be None. A finding outside of `line`'s construct, or if not `exact` of its function, is left out, and
    so is its edit. A file that meets none of `needs` has nothing for the rule.
    """

    id: str
    code: str  # what users write behind "noqa:" and into settings: it never changes, and none is used again
    about: str
    page: str
    needs: tuple[Need, ...]
    rewrite: Callable[..., tuple[str, tuple[Finding, ...]]]

    def concerns(self, source: str, called: frozenset[str]) -> bool:
        return any(need.met(source, called) for need in self.needs)


def rule(module: ModuleType) -> Rule:
    page = module.__doc__ or ""
    search = partial(rewrite, module.ID, module.search, code=module.CODE)
    return Rule(module.ID, module.CODE, page.partition("\n")[0], page, module.NEEDS, search)


# A route made synchronous needs no other rule; awaited futures let an executor's exit be mended; the handlers of a
# lifespan are known by their decorators until `lifespan` takes these off. Rules that add lines come last, so that the
# messages of the others name the lines of the file as it is.
RULES = tuple(
    map(
        rule,
        (
            sync_endpoint,
            sleep,
            asyncio_lock,
            release_permit,
            await_future,
            nonblocking_executor,
            to_thread,
            give_back,
            read_pipes,
            lifespan,
        ),
    )
)


def each_once(findings: list[Finding]) -> list[Finding]:
    """The findings without the waits in an executor's block that another rule reports for themselves, and better."""
    reported = {item.line for item in findings if item.rule != nonblocking_executor.ID}
    return [item for item in findings if item.line not in reported or nonblocking_executor.WAITS not in item.message]
